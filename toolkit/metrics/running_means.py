"""Weighted means of named scalars, accumulated on the device and exact on any number of devices."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


def accumulator_dtype() -> torch.dtype:
    """float64, so that an epoch of a million steps loses nothing; Apple's GPUs know only float32."""
    return torch.float32 if torch.backends.mps.is_available() else torch.float64


class RunningMeans(Metric):
    """Means of several scalars since the last `reset`, and since the last `mark` (the logging window).

    One update is three small operations on the device whatever the number of scalars, and no transfer to the host. The
    states are sums, so ranks combine exactly: a mean of per-rank means would be wrong where ranks hold different
    numbers of samples (and `sync_dist=True` computes just that).

    Args:
        names: What the scalars are called, in the order in which `update` takes them.

    >>> means = RunningMeans(["loss"])
    >>> means.update([torch.tensor(1.0)], weight=3)
    >>> means.update([torch.tensor(2.0)], weight=1)
    >>> round(means.compute()["loss"].item(), 2)
    1.25
    """

    higher_is_better = None
    is_differentiable = False
    full_state_update = False
    total: Tensor
    marked: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(compute_with_cache=False)
        self.names = list(names)
        zeros = torch.zeros(2, len(self.names), dtype=accumulator_dtype())  # the sums, and their weights
        self.add_state("total", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("marked", zeros.clone(), dist_reduce_fx="sum")

    def update(self, values: Sequence[Tensor], weight: Tensor | float | Sequence[Tensor]) -> None:
        """Add one batch.

        Args:
            values: The batch's mean of each scalar, in the order of ``names``; each a tensor of one element.
            weight: How many samples (or tokens, or class weights) the means stand for: one number for all, or one each.
        """
        self.add(values, weight)

    def add(self, values: Sequence[Tensor], weight: Tensor | float | Sequence[Tensor]) -> None:
        """`update` without torchmetrics' bookkeeping around it, which would double its cost in each training step."""
        self.__dict__["_update_count"] = 1  # it warns of a metric that is computed without an update
        sums, weights = self.total.unbind()
        stacked = torch.stack([*values]).detach().to(sums.dtype)  # (N,)
        if isinstance(weight, Sequence):
            weight = torch.stack([*weight]).detach().to(sums.dtype)  # (N,)
        sums += stacked * weight
        weights += weight

    def means_of(self, total: Tensor) -> dict[str, Tensor]:
        """Turn sums into means: ``(2, N)``, as in the states, to one float32 scalar a name; NaN without samples."""
        means = (total[0] / total[1]).to(torch.float32)
        return dict(zip(self.names, means.unbind(), strict=True))

    def compute(self) -> dict[str, Tensor]:
        """Means over everything since the last reset, over all ranks."""
        return self.means_of(self.total)

    def window(self) -> Tensor:
        """This rank's sums since the last `mark`, shape ``(2, N)``."""
        return self.total - self.marked

    def mark(self) -> None:
        """Begin a new window."""
        self.marked.copy_(self.total)

    def state(self) -> Tensor:
        """This rank's sums and marks, ``(2, 2, N)``."""
        return torch.stack([self.total, self.marked])

    def restore(self, state: Tensor) -> None:
        """Put back what `state` gave."""
        self.total, self.marked = state.to(self.total, copy=True).unbind()
        self._update_count = 1  # torchmetrics warns of a metric that is computed without an update

    def next_epoch(self) -> None:
        """Reset all but the open window, which goes on until it is logged."""
        window = self.window()
        self.reset()
        self.marked -= window
