"""Which samples make up which batch: a pure function of (seed, epoch, batch), on any number of ranks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from toolkit.errors import UserError
from toolkit.keys import sample_keys


class BatchIndex(NamedTuple):
    """The samples of one rank's batch: what a data set is asked for."""

    epoch: int
    """Epoch, counted from 0; augmentation keys depend on it."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, sample numbers."""


class KeyedSampler(Sampler[BatchIndex], ABC):
    """The batches of an epoch, from any one of them on, the same number on every rank."""

    seed: int
    epoch: int = 0
    first: int = 0
    """The batch that an iteration begins with; a resumed epoch begins in its middle."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.epoch = epoch

    @property
    @abstractmethod
    def dropped(self) -> int:
        """Samples that an epoch leaves out."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch."""

    def permutation(self, length: int) -> Tensor:
        """Of the epoch: ``(length,)``, int64."""
        # A hash: torch's CPU generator reads the low 32 bits of a seed only, so they must depend on both; and a sum of
        # the two would make (seed 1, epoch 0) and (seed 0, epoch 1) the same permutation.
        key = sample_keys(self.seed, self.epoch, torch.zeros(1, dtype=torch.int64))
        return torch.randperm(length, generator=torch.Generator().manual_seed(int(key)))


class TrainSampler(KeyedSampler):
    """One permutation of the whole set an epoch, cut into global batches; each rank takes its slice of each.

    The incomplete last global batch is dropped, and with gradient accumulation the incomplete last group of batches:
    the next epoch's permutation drops other samples. Order does not depend on the number of ranks or workers, nor on
    into how many batches an optimizer step is cut, and every rank has the same number of batches.

    Args:
        length: Number of samples.
        batch_size: Samples in a global batch, over all ranks.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.
        accumulate: Batches in an optimizer step.

    Raises:
        UserError: What an optimizer step needs is larger than the set, or a batch does not divide by the ranks.

    >>> sorted(torch.cat([batch.index for batch in TrainSampler(length=4, batch_size=2, seed=0)]).tolist())
    [0, 1, 2, 3]
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"data.init_args.batch_size: the global batch of {batch_size} does not divide by {world_size} devices; "
                f"write a multiple of {world_size}."
            )
        if batch_size * accumulate > length:
            times = f" times accumulate_grad_batches {accumulate}" if accumulate > 1 else ""
            raise UserError(
                f"data.init_args.batch_size: the global batch of {batch_size}{times} is larger than the training split "
                f"of {length} samples; write at most {length // accumulate}."
            )
        self.length, self.batch_size, self.seed, self.accumulate = length, batch_size, seed, accumulate
        self.rank, self.world_size = rank, world_size

    @property
    def dropped(self) -> int:
        """Those of the incomplete last batch, or group of batches."""
        return self.length - len(self) * self.batch_size

    def __len__(self) -> int:
        return self.length // (self.batch_size * self.accumulate) * self.accumulate

    def batches(self) -> Tensor:
        """``(batches, batch_size)``: the sample numbers of the epoch's global batches."""
        return self.permutation(self.length)[: len(self) * self.batch_size].view(-1, self.batch_size)

    def __iter__(self) -> Iterator[BatchIndex]:
        for batch in self.batches()[self.first :]:
            yield BatchIndex(self.epoch, batch.chunk(self.world_size)[self.rank])


class StreamSampler(TrainSampler):
    """The samples in their order, so that row b of a batch continues row b of the batch before; see `TrainSampler`.

    >>> [batch.index.tolist() for batch in StreamSampler(length=7, batch_size=2, seed=0)]
    [[0, 1], [2, 3], [4, 5]]
    """

    def __iter__(self) -> Iterator[BatchIndex]:
        for number in range(self.first, len(self)):
            batch = torch.arange(number * self.batch_size, (number + 1) * self.batch_size)
            yield BatchIndex(self.epoch, batch.chunk(self.world_size)[self.rank])


class EvaluationSampler(Sampler[BatchIndex]):
    """Every sample once, in order, with the same number of batches on every rank.

    No rank is padded with duplicates: the shares of a batch differ by at most one sample. A last batch with fewer
    samples than ranks joins the one before, because a rank without a batch would leave the others waiting.

    Args:
        length: Number of samples.
        batch_size: Samples in a global batch, over all ranks.
        rank: This process.
        world_size: Number of processes.

    Raises:
        UserError: There are no samples, or fewer than ranks.

    >>> [batch.index.tolist() for batch in EvaluationSampler(length=7, batch_size=4, rank=1, world_size=2)]
    [[2, 3], [6]]
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if length == 0:
            raise UserError(
                "data: the split to evaluate on has no samples; hold some out (--data.val_size 0.1 where the data are "
                "split here), or train without validation by --trainer.limit_val_batches 0."
            )
        if length < world_size:
            raise UserError(f"data: {length} samples cannot be evaluated on {world_size} devices; use fewer devices.")
        self.length, self.batch_size = length, max(batch_size, world_size)
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        full, rest = divmod(self.length, self.batch_size)
        return max(1, full + (rest >= self.world_size))

    def __iter__(self) -> Iterator[BatchIndex]:
        for number in range(len(self)):
            last = number == len(self) - 1
            stop = self.length if last else (number + 1) * self.batch_size
            batch = torch.arange(number * self.batch_size, stop)
            yield BatchIndex(0, batch.tensor_split(self.world_size)[self.rank])
