"""Batches of samples that are about as long as each other, still a pure function of (seed, epoch, batch)."""

import torch
from torch import Tensor

from datamodules.sampler import TrainSampler
from toolkit.keys import sample_keys


class LengthSampler(TrainSampler):
    """The permutation of `TrainSampler`, sorted by length within windows of some steps, which are then shuffled.

    Every sample stands once in an epoch, in a batch that needs little padding. Which samples make up an optimizer step
    does not depend on into how many batches it is cut.

    Args:
        lengths: ``(length,)``, int64.
        window: The samples of how many optimizer steps are sorted together.
        length: Those of `TrainSampler`, like all behind it.
        batch_size: Samples in a global batch, over all ranks.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.
        accumulate: Batches in an optimizer step.

    >>> sampler = LengthSampler(torch.tensor([9, 1, 8, 2, 7, 3]), 3, length=6, batch_size=2, seed=0)
    >>> sorted(sorted(batch.index.tolist()) for batch in sampler)
    [[0, 2], [1, 3], [4, 5]]
    """

    def __init__(
        self,
        lengths: Tensor,
        window: int,
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        super().__init__(length, batch_size, seed, rank, world_size, accumulate)
        self.lengths, self.window = lengths, window

    def batches(self) -> Tensor:
        """``(batches, batch_size)``, sample numbers of the epoch."""
        steps = super().batches().view(-1, self.accumulate * self.batch_size)  # whole, however they are cut
        sorted_ones = []
        for number, window in enumerate(torch.split(steps, self.window)):
            flat = window.flatten()
            flat = flat[self.lengths[flat].argsort(stable=True)].view_as(window)
            key = sample_keys(self.seed, self.epoch, torch.tensor([number + 1]))
            sorted_ones.append(flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(int(key)))])
        return torch.cat(sorted_ones).view(-1, self.batch_size)
