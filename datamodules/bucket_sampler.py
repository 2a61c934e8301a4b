"""Batches of pairs of like lengths: a pure function of (seed, epoch, batch), on any number of ranks."""

from collections.abc import Iterator

import numpy as np
import torch

from datamodules.sampler import BatchIndex, KeyedSampler
from toolkit.errors import UserError

PAIRS_ALIKE = 8
"""Pairs of one rounded length at least, on average: fewer would meet the same others each epoch."""


class BucketSampler(KeyedSampler):
    """Pairs in the order of their lengths, cut into batches of so many pairs or tokens; the batches are shuffled.

    Lengths are rounded up, and pairs whose two lengths are alike change places each epoch, so that the ordered lengths,
    and with them the borders of batches and their number, are those of every epoch. Each pair comes once an epoch: the
    last two batches share what is left. Ranks and the batches of an optimizer step take every n-th pair of what would
    be one batch, so a step's pairs do not depend on into how many parts it is cut.

    Args:
        lengths: ``(N, 2)``, int64, tokens of source and target.
        batch_size: Pairs in a global batch, over all ranks.
        max_tokens: Tokens in a global batch instead, padding included, on the side that has more of them.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.
        accumulate: Batches in an optimizer step.

    Raises:
        UserError: A pair is longer than ``max_tokens``, or a batch has fewer pairs than there are ranks.

    >>> lengths = np.array([[3, 3], [9, 9], [4, 4], [9, 10]])
    >>> sorted(sorted(batch.index.tolist()) for batch in BucketSampler(lengths, batch_size=2, seed=0))
    [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        max_tokens: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.seed, self.rank, self.world_size, self.accumulate = seed, rank, world_size, accumulate
        self._place, longest = _ordered(lengths)
        if max_tokens is None:
            limit = batch_size * accumulate
            if limit > len(lengths):
                raise UserError(
                    f"data.init_args.batch_size: an optimizer step of {limit} pairs is larger than the training split "
                    f"of {len(lengths)}; write at most {len(lengths) // accumulate}."
                )
            longest = np.ones_like(longest)
        else:
            limit = max_tokens * accumulate
            if lengths.max() > max_tokens:
                raise UserError(
                    f"data.init_args.max_tokens: {max_tokens} has no room for a text of {lengths.max()} tokens; write "
                    "more, or a smaller data.init_args.max_length."
                )
        self._borders = _borders(longest.tolist(), limit)
        if (least := int(np.diff(self._borders).min())) < world_size * accumulate:
            raise UserError(
                f"data: a step of {least} pairs cannot be cut into {world_size * accumulate} parts, one for each "
                "device and accumulated batch; write a larger data.init_args.max_tokens or batch_size."
            )

    @property
    def dropped(self) -> int:
        """None."""
        return 0

    def __len__(self) -> int:
        return (len(self._borders) - 1) * self.accumulate

    def __iter__(self) -> Iterator[BatchIndex]:
        shuffled = self.permutation(len(self._place)).numpy()
        order = torch.from_numpy(shuffled[self._place[shuffled].argsort(kind="stable")])
        groups = self.permutation(len(self._borders) - 1).tolist()
        for number in range(self.first, len(self)):
            group, part = groups[number // self.accumulate], number % self.accumulate
            pairs = order[self._borders[group] : self._borders[group + 1]]
            yield BatchIndex(self.epoch, pairs[part :: self.accumulate][self.rank :: self.world_size])


def _ordered(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place ``(N,)`` of each pair, alike for those of like lengths, and the longer length at each place, ordered.

    Lengths are alike that round up to the same multiple, of 2 where there are many pairs. The longest come first. Among
    those of one source length, targets rise and fall in turn: where the source's length changes, the target's does not
    jump.
    """
    step, rounded = 2, -(-lengths // 2)
    while len(np.unique(rounded, axis=0)) * PAIRS_ALIKE > len(lengths) and rounded.max() > 1:
        step *= 2
        rounded = -(-lengths // step)
    source, target = rounded.T
    turned = np.where(source % 2 == 0, target, -target)
    kinds, place = np.unique(np.stack([-source, turned], axis=1), axis=0, return_inverse=True)
    place = place.reshape(-1)  # numpy 2.0 gives it another shape
    longest = np.minimum(np.abs(kinds).max(axis=1) * step, lengths.max())  # of each kind
    return place, longest[np.sort(place)]


def _borders(longest: list[int], limit: int) -> list[int]:
    """Where groups begin, and the end: each as large as the limit on (number of pairs) times (longest) lets it be."""
    borders, widest = [0], 0
    for place, length in enumerate(longest):
        widest = max(widest, length)
        if (place + 1 - borders[-1]) * widest > limit:
            borders.append(place)
            widest = length
    borders.append(len(longest))
    if len(borders) > 2:  # what is left for the last one may be little
        middle = min(borders[-2], (borders[-3] + borders[-1] + 1) // 2)
        if (borders[-1] - middle) * max(longest[middle:]) <= limit:
            borders[-2] = middle
    return borders
