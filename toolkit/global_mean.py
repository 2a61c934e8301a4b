"""The gradient of the mean over a whole global batch, whatever it was cut into."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class GlobalMean:
    """Makes the gradients of ranks, accumulated batches and microbatches add up to that of one large batch.

    Each piece's loss is a mean over its own samples, tokens or class weights: its *weight*. Ranks average gradients,
    and the Trainer divides each of ``accumulate`` losses by their number, as if all pieces weighed the same. They do
    not where samples are unreadable, tokens masked or classes weighted, nor in the short last window of an epoch. So a
    loss is multiplied by its weight over that of the first piece, before the backward pass; and before the optimizer
    steps, when the weights of all pieces are known, the gradients are put right.

    >>> mean, parameter = GlobalMean(), torch.zeros(1, requires_grad=True)
    >>> for value, weight in ((1.0, 3.0), (5.0, 1.0)):
    ...     (mean.weigh((parameter * value).sum(), weight, weight) / 2).backward()
    >>> mean.correct([parameter], accumulate=2)
    >>> parameter.grad  # (3 * 1 + 1 * 5) / 4
    tensor([2.])
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the pieces so far."""
        self._first: Any = None
        self._total: Any = 0.0

    def weigh(self, loss: Tensor, weight: Tensor | float, mean_weight: Tensor | float) -> Tensor:
        """The loss to run the backward pass on.

        Args:
            loss: Scalar, mean over this rank's piece.
            weight: Of this rank's piece.
            mean_weight: Mean of the weights of all ranks' pieces.
        """
        if self._first is None:
            self._first = mean_weight
            if isinstance(mean_weight, Tensor):
                self._first = mean_weight.where(mean_weight > 0, torch.ones_like(mean_weight))
        self._total = self._total + mean_weight
        share: Tensor | float = weight / self._first
        return loss * share

    def correct(self, parameters: Iterable[Tensor], accumulate: int) -> None:
        """Scale the gradients for all pieces since the last time.

        Args:
            parameters: Those with the gradients.
            accumulate: By what the Trainer divided each loss.
        """
        if self._first is None:
            return
        factor = accumulate * float(self._first) / (float(self._total) or 1.0)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if factor != 1.0 and gradients:
            torch._foreach_mul_(gradients, factor)
        self.reset()


def parameters_of(optimizer: Optimizer) -> Iterable[Tensor]:
    """All that an optimizer steps."""
    for group in optimizer.param_groups:
        yield from group["params"]
