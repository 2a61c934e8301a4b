"""Pairs of texts as tokens, collated into padded batches. Shape legend: M pairs, N tokens, B batch, S and T tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datamodules.base import BatchedDataset
from datamodules.sampler import BatchIndex
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, TranslationBatch


class TokenTexts:
    """Texts of different lengths, one behind another.

    Args:
        texts: Tokens of each, ``(n,)``, with its end.
    """

    def __init__(self, texts: Sequence[np.ndarray]) -> None:
        self.length = np.array([len(text) for text in texts], dtype=np.int64)  # (M,)
        self.first = np.cumsum(self.length) - self.length
        self.tokens = np.concatenate([*texts, np.empty(0, dtype=np.uint32)])  # (N,)

    def padded(self, number: np.ndarray) -> tuple[Tensor, Tensor]:
        """Texts ``(B, T)``, of which padding is `IGNORE_LABEL`, and their lengths ``(B,)``."""
        length = self.length[number]
        place = np.arange(length.max())
        inside = place < length[:, None]  # (B, T)
        tokens = self.tokens[np.where(inside, self.first[number][:, None] + place, 0)].astype(np.int64)
        return torch.from_numpy(np.where(inside, tokens, IGNORE_LABEL)), torch.from_numpy(length)


class ParallelTexts(BatchedDataset):
    """Pairs; for evaluation in the order of their lengths, so that little is padded: ``index`` says which they are.

    Args:
        source: M texts.
        target: Their translations.
        end: The token of an end in the target's vocabulary.
        by_length: Whether the pairs come in the order of their lengths.
    """

    seed: int = 0

    def __init__(self, source: TokenTexts, target: TokenTexts, end: int, by_length: bool) -> None:
        self.source, self.target, self.end = source, target, end
        order = np.lexsort((target.length, source.length)) if by_length else np.arange(len(source.length))
        self.order = torch.from_numpy(order)

    def __len__(self) -> int:
        return len(self.order)

    def lengths(self) -> np.ndarray:
        """Tokens of source and target of each pair: ``(M, 2)``."""
        lengths: np.ndarray = np.stack([self.source.length, self.target.length], axis=1)[self.order.numpy()]
        return lengths

    def __getitem__(self, batch: BatchIndex) -> TranslationBatch:
        index = self.order[batch.index]
        source, source_length = self.source.padded(index.numpy())
        label, _ = self.target.padded(index.numpy())
        before = torch.full((len(index), 1), self.end)
        token = torch.cat([before, label[:, :-1]], dim=1).clamp(min=0)  # padding is some token that nobody looks at
        key = sample_keys(self.seed, batch.epoch, index)
        return TranslationBatch(source.clamp(min=0), source_length, token, label, index, key)
