"""Tokenised texts as batches. Shape legend: N tokens of all texts, M texts, B batch, T tokens of the longest."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datamodules.base import BatchedDataset
from datamodules.sampler import BatchIndex
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, LabelledTextBatch


class LabelledTexts(BatchedDataset):
    """Texts of a split, padded to the longest of a batch.

    Args:
        texts: Tokens of each of M texts.
        label: ``(M,)``, int64; None where nobody knows them.
    """

    seed: int = 0
    """Of the run, for the keys."""

    def __init__(self, texts: Sequence[np.ndarray], label: Tensor | None = None) -> None:
        self.label = torch.full((len(texts),), IGNORE_LABEL) if label is None else label
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        self.tokens = torch.from_numpy(np.concatenate(texts).astype(np.int64))  # (N,)
        self.length = torch.from_numpy(sizes)  # (M,)
        self.first = self.length.cumsum(0) - self.length

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, batch: BatchIndex) -> LabelledTextBatch:
        """The texts asked for."""
        first, length = self.first[batch.index], self.length[batch.index]
        place = torch.arange(int(length.max()))  # (T,)
        mask = place < length[:, None]  # (B, T)
        token = self.tokens[(first[:, None] + place).clamp(max=len(self.tokens) - 1)].where(mask, 0)
        key = sample_keys(self.seed, batch.epoch, batch.index)
        return LabelledTextBatch(token, mask, self.label[batch.index], batch.index, key)
