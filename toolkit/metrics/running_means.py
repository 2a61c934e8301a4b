"""Weighted means of named scalars, accumulated on the device and exact on any number of devices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


def accumulator_dtype() -> torch.dtype:
    """float64, so that an epoch of a million steps loses nothing; Apple's GPUs know only float32."""
    return torch.float32 if torch.backends.mps.is_available() else torch.float64


UNSETTLED = 64
"""Updates that are noted before they are added up."""


class Snapshot(NamedTuple):
    """What `RunningMeans.rewind` goes back to."""

    accumulated: Tensor
    unsettled: list[tuple[Tensor, Tensor | float]]


class RunningMeans(Metric):
    """Means of several scalars since the last `reset`, and since the last `mark` (the logging window).

    The states are sums, so ranks combine exactly: a mean of per-rank means would be wrong where ranks hold different
    numbers of samples (and `sync_dist=True` computes just that). An update only notes its values, in one small
    operation on the device; they are added up when someone asks, or after `UNSETTLED` of them, without a transfer to
    the host.

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
    accumulated: Tensor
    """``(2, 2, N)``: since the last reset, and since the last mark; the sums, and their weights."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(compute_with_cache=False)
        self.names = list(names)
        zeros = torch.zeros(2, 2, len(self.names), dtype=accumulator_dtype())
        self.add_state("accumulated", zeros, dist_reduce_fx="sum")
        self._unsettled: list[tuple[Tensor, Tensor | float]] = []
        """Values, ``(N,)``, and their weights, not yet accumulated."""

    def update(self, values: Sequence[Tensor], weight: Tensor | float | Sequence[Tensor]) -> None:
        """Add one batch.

        Args:
            values: The batch's mean of each scalar, in the order of ``names``; each a tensor of one element.
            weight: How many samples (or tokens, or class weights) the means stand for: one number for all, or one each.
        """
        self.add(values, weight)

    @torch.no_grad()
    def add(self, values: Sequence[Tensor], weight: Tensor | float | Sequence[Tensor]) -> None:
        """`update` without torchmetrics' bookkeeping around it, which would double its cost in each training step."""
        self.__dict__["_update_count"] = 1  # it warns of a metric that is computed without an update
        if isinstance(weight, Sequence):
            weight = torch.stack([*weight])  # (N,)
        elif isinstance(weight, Tensor):
            weight = weight.clone()  # what it was made of may be written into before it is added
        self._unsettled.append((torch.stack([*values]).reshape(len(self.names)), weight))
        if len(self._unsettled) >= UNSETTLED:
            self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Add up what was noted, in its order, so that it does not matter when."""
        if not self._unsettled:
            return
        values, weights = zip(*self._unsettled, strict=True)
        self._unsettled = []
        before = self.accumulated.to(accumulator_dtype())  # a module in 16 bits has its states so, too
        value = torch.stack(values).to(before)  # (U, N)
        if all(isinstance(weight, (int, float)) for weight in weights):
            weight = torch.tensor(weights, dtype=before.dtype).to(before.device)[:, None].expand_as(value)
        else:
            weight = torch.stack([torch.as_tensor(weight).to(before).expand(len(self.names)) for weight in weights])
        rows = torch.stack([value * weight, weight], dim=1)[:, None].expand(-1, 2, -1, -1)  # (U, 2, 2, N)
        self.accumulated = torch.cat([before[None], rows]).cumsum(dim=0)[-1]  # one after the other

    def sums(self) -> Tensor:
        """This rank's sums and their weights since the last reset, ``(2, N)``."""
        return self.state()[0]

    def means_of(self, sums: Tensor) -> dict[str, Tensor]:
        """Turn sums into means: ``(2, N)``, to one float32 scalar a name; NaN without samples."""
        means = (sums[0] / sums[1]).to(torch.float32)
        return dict(zip(self.names, means.unbind(), strict=True))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Combine the ranks' sums; torchmetrics calls it before `compute`, and puts the rank's own back behind it."""
        self.settle()
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """Means over everything since the last reset, over all ranks."""
        return self.means_of(self.accumulated[0])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Torchmetrics' update and compute of one batch."""
        self.settle()
        return super().forward(*args, **kwargs)

    def reset(self) -> None:
        """Begin anew."""
        self._unsettled = []
        super().reset()

    def window(self) -> Tensor:
        """This rank's sums since the last `mark`, shape ``(2, N)``."""
        return self.state()[1]

    def mark(self) -> None:
        """Begin a new window."""
        epoch, window = self.state()
        self.accumulated = torch.stack([epoch, torch.zeros_like(window)])

    def state(self) -> Tensor:
        """This rank's sums of the epoch and of the window, ``(2, 2, N)``."""
        self.settle()
        return self.accumulated

    def restore(self, state: Tensor) -> None:
        """Put back what `state` gave."""
        self._unsettled = []
        self.accumulated = state.to(self.accumulated.device, copy=True)
        self._update_count = 1  # torchmetrics warns of a metric that is computed without an update

    def snapshot(self) -> Snapshot:
        """What `rewind` goes back to; costs nothing."""
        return Snapshot(self.accumulated, self._unsettled.copy())

    def rewind(self, snapshot: Snapshot) -> None:
        """Forget what was added since."""
        self.accumulated, self._unsettled = snapshot.accumulated, snapshot.unsettled.copy()

    def next_epoch(self) -> None:
        """Reset all but the open window, which goes on until it is logged."""
        epoch, window = self.state()
        self.accumulated = torch.stack([torch.zeros_like(epoch), window])
