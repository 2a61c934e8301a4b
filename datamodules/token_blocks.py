"""Blocks of a stream of tokens, each with the token that follows it. Shape legend: N tokens, B batch, T block.

A *position* is the number of a token that is read; what is predicted there is the token behind it.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from datamodules.base import BatchedDataset
from datamodules.sampler import BatchIndex
from toolkit.keys import sample_keys, single_key
from toolkit.types import IGNORE_LABEL, TextBatch

SHIFT = 2**40
"""Beyond the number of any block."""


class TokenBlocks(BatchedDataset, ABC):
    """Windows over tokens, in memory or in a file.

    Args:
        tokens: ``(N,)``, uint16 or uint32; may be a `numpy.memmap`.
        block_size: T.
    """

    seed: int = 0

    def __init__(self, tokens: np.ndarray, block_size: int) -> None:
        self.tokens, self.block_size = tokens, block_size

    @abstractmethod
    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Tokens and targets ``(B, T)`` of blocks, and whether they continue those of the batch before."""

    def __getitem__(self, batch: BatchIndex) -> TextBatch:
        token, target, continues = self.read(batch)
        return TextBatch(token, target, batch.index, sample_keys(self.seed, batch.epoch, batch.index), continues)

    def ring(self, start: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """Blocks ``(B, T)`` that begin at ``(B,)`` on the ring to which an epoch bends the tokens, and their targets.

        Where the ring begins differs from epoch to epoch, and so do the borders of blocks.
        """
        shift = single_key(self.seed, epoch, SHIFT) % len(self.tokens)
        place = (start[:, None] + (np.arange(self.block_size + 1) + shift)) % len(self.tokens)  # (B, T + 1)
        block = torch.from_numpy(self.tokens[place].astype(np.int64))
        return block[:, :-1], block[:, 1:]

    def window(self, start: np.ndarray, first: np.ndarray, stop: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
        """Positions from ``start`` ``(B,)`` on, of which those from ``first`` to before ``stop`` count."""
        place = start[:, None] + np.arange(length)  # (B, T)
        last = len(self.tokens) - 2
        token = torch.from_numpy(self.tokens[np.minimum(place, last)].astype(np.int64))
        target = torch.from_numpy(self.tokens[np.minimum(place, last) + 1].astype(np.int64))
        counts = torch.from_numpy((place >= first[:, None]) & (place < stop[:, None]))
        return token, target.where(counts, IGNORE_LABEL)


class TrainingBlocks(TokenBlocks):
    """Blocks side by side, every token in one of them, but for a rest smaller than a block."""

    def __len__(self) -> int:
        return len(self.tokens) // self.block_size

    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Blocks of an epoch."""
        return *self.ring(batch.index.numpy() * self.block_size, batch.epoch), False


class TrainingStreams(TokenBlocks):
    """The tokens in ``streams`` parts, of which a batch has the next block of each.

    Args:
        tokens: ``(N,)``.
        block_size: T.
        streams: How many: the rows of a global batch.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, streams: int) -> None:
        super().__init__(tokens, block_size)
        self.streams = streams

    def __len__(self) -> int:
        return len(self.tokens) // self.streams // self.block_size * self.streams

    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Block ``i // streams`` of stream ``i % streams`` for each number i."""
        block, stream = np.divmod(batch.index.numpy(), self.streams)
        start = stream * (len(self.tokens) // self.streams) + block * self.block_size
        return *self.ring(start, batch.epoch), bool(block[0] > 0)


class EvaluationBlocks(TokenBlocks):
    """Every position in exactly one block, read with nothing before its block.

    Args:
        tokens: ``(N,)``.
        block_size: T.
        overlap: So many positions of a block are those that the block before ends with, and do not count again.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, overlap: int = 0) -> None:
        super().__init__(tokens, block_size)
        self.overlap = overlap

    def __len__(self) -> int:
        rest = max(0, len(self.tokens) - 1 - self.block_size)
        return 1 + -(-rest // (self.block_size - self.overlap))

    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Blocks in their order."""
        start = batch.index.numpy() * (self.block_size - self.overlap)
        first = np.where(start == 0, 0, start + self.overlap)
        stop = np.minimum(start + self.block_size, len(self.tokens) - 1)
        return *self.window(start, first, stop, self.block_size), False


class EvaluationStreams(TokenBlocks):
    """Every position once, in ``streams`` parts that are read from end to end; see `TrainingStreams`."""

    def __init__(self, tokens: np.ndarray, block_size: int, streams: int) -> None:
        super().__init__(tokens, block_size)
        self.streams = streams
        self.length = -(-(len(tokens) - 1) // streams)
        """Positions of a stream; the last ones may have fewer."""

    def __len__(self) -> int:
        return -(-self.length // self.block_size) * self.streams

    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Block ``i // streams`` of stream ``i % streams`` for each number i."""
        block, stream = np.divmod(batch.index.numpy(), self.streams)
        start = stream * self.length + block * self.block_size
        stop = np.minimum((stream + 1) * self.length, len(self.tokens) - 1)
        return *self.window(start, start, stop, self.block_size), bool(block[0] > 0)


class Lines(TokenBlocks):
    """A line a sample: the end of the line before, then its tokens; what is predicted ends with its own end.

    Args:
        tokens: ``(N,)``, an end, and behind it each line with its end.
        first: ``(M,)``, int64, the position at which each of M lines begins: the end before it.
        stop: ``(M,)``, int64, the position behind each; where the next begins if None.
    """

    def __init__(self, tokens: np.ndarray, first: np.ndarray, stop: np.ndarray | None = None) -> None:
        self.first = first
        self.stop = np.append(first[1:], len(tokens) - 1) if stop is None else stop
        super().__init__(tokens, int((self.stop - self.first).max()))

    def __len__(self) -> int:
        return len(self.first)

    def read(self, batch: BatchIndex) -> tuple[Tensor, Tensor, bool]:
        """Lines, as long as the longest of them."""
        first, stop = self.first[batch.index.numpy()], self.stop[batch.index.numpy()]
        return *self.window(first, first, stop, int((stop - first).max())), False
