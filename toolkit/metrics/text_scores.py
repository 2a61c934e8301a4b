"""What a language model's loss comes to, from sums of nats: torchmetrics' Perplexity would compute the loss again."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from toolkit.metrics.running_means import accumulator_dtype


class _Nats(Metric):
    """Negative log probability, over a number of something."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    nats: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("nats", "count"):
            self.add_state(name, torch.zeros((), dtype=accumulator_dtype()), dist_reduce_fx="sum")


class Perplexity(_Nats):
    """Exponential of the mean nats a token.

    >>> score = Perplexity()
    >>> score.update(nats=torch.tensor(2 * math.log(8)), tokens=torch.tensor(2))
    >>> round(score.compute().item(), 4)
    8.0
    """

    def update(self, nats: Tensor, tokens: Tensor) -> None:
        """Add a batch.

        Args:
            nats: Scalar, sum over its tokens.
            tokens: Scalar, how many.
        """
        self.nats += nats
        self.count += tokens

    def compute(self) -> Tensor:
        """Over all batches and ranks."""
        return (self.nats / self.count).exp().float()


class BitsPerByte(_Nats):
    """Bits a byte of UTF-8, which compares models whatever their tokens are."""

    def update(self, nats: Tensor, size: Tensor) -> None:
        """Add a batch.

        Args:
            nats: Scalar, sum over its tokens.
            size: Scalar, how many bytes they stand for.
        """
        self.nats += nats
        self.count += size

    def compute(self) -> Tensor:
        """Over all batches and ranks."""
        return (self.nats / self.count / math.log(2)).float()
