"""Images with one label a pixel: in memory, as files, and the DataModule over both.

Shape legend: N images, B batch, C channels, H height, W width, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.base import BaseDataModule, BatchedDataset
from datamodules.sampler import BatchIndex
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, Baseline, SegmentationBatch, Stage

IGNORED_BYTE = 255
"""How a pixel without a label is written in a mask file and in memory, as PASCAL VOC does."""
COUNTED = 1000
"""Of how many training masks the most frequent class is that of the naive baseline."""


class LabelledPixels(BatchedDataset, ABC):
    """Images and the labels of their pixels; a batch comes with the keys of its samples."""

    seed: int = 0

    def __getitem__(self, batch: BatchIndex) -> SegmentationBatch:
        image, mask = self.read(batch.index)
        index = batch.index.to(image.device)
        return SegmentationBatch(image, as_labels(mask), index, sample_keys(self.seed, batch.epoch, index))

    @abstractmethod
    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(B, C, H, W)`` and masks ``(B, H, W)``, both uint8, of samples ``(B,)``."""

    @abstractmethod
    def masks(self, index: Tensor) -> Tensor:
        """The masks alone."""


class SegmentationArrays(LabelledPixels):
    """A whole split in memory.

    Args:
        image: ``(N, C, H, W)``, uint8.
        mask: ``(N, H, W)``, uint8, `IGNORED_BYTE` where there is no label.
    """

    def __init__(self, image: Tensor, mask: Tensor) -> None:
        self.image, self.mask = image, mask

    def __len__(self) -> int:
        return len(self.mask)

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out a batch."""
        return self.image[index], self.mask[index]

    def masks(self, index: Tensor) -> Tensor:
        """Cut out masks."""
        return self.mask[index]


class SegmentationDataModule(BaseDataModule, ABC):
    """Images with one label a pixel.

    A subclass builds the splits and sets the facts.

    Args:
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    class_names: Sequence[str]
    in_channels: int
    image_size: tuple[int, int]
    pixel_mean: Sequence[float]
    """Mean of each channel on the scale ``[0, 1]``."""
    pixel_std: Sequence[float]
    """Standard deviation of each channel, likewise."""

    def __init__(self, **loader: Any) -> None:
        super().__init__(**loader)
        self._splits: dict[Stage, LabelledPixels] = {}
        self._counts: dict[Stage, Tensor] = {}

    @abstractmethod
    def build(self, stage: Stage) -> LabelledPixels:
        """Read a split; called once for each."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def dataset(self, stage: Stage) -> LabelledPixels:
        """The split of a stage."""
        if stage not in self._splits:
            self._splits[stage] = self.build(stage)
        split = self._splits[stage]
        split.seed = self.seed
        return split

    def baseline(self, stage: Stage) -> Baseline:
        """Scores of answering everywhere the class that is most frequent in training, mostly the background."""
        majority = int(self.pixels_of_classes("train", COUNTED).argmax())
        count = self.pixels_of_classes(stage)
        share = float(count[majority] / count.sum())
        answered = torch.zeros_like(count)
        answered[majority] = 1
        present = int(((count + answered) > 0).sum())
        scores = {"miou": share / present, "dice": 2 * share / (1 + share) / present, "pixel_acc": share}
        return Baseline(f"{self.class_names[majority]} everywhere", scores)

    def pixels_of_classes(self, stage: Stage, images: int | None = None) -> Tensor:
        """How many pixels of each class a split has, ``(K,)``; of so many images spread over it, or of all."""
        split = self.dataset(stage)
        count = len(split) if images is None else min(images, len(split))
        index = torch.linspace(0, len(split) - 1, count, dtype=torch.float64).round().long()
        total = torch.zeros(256, dtype=torch.int64)
        for part in torch.split(index, 64):
            total += split.masks(part).flatten().bincount(minlength=256)
        return total[: self.num_classes]


def as_labels(mask: Tensor) -> Tensor:
    """Masks as class numbers, int64, `IGNORED_BYTE` as ``IGNORE_LABEL``.

    >>> as_labels(torch.tensor([0, 2, 255], dtype=torch.uint8)).tolist()
    [0, 2, -100]
    """
    label = mask.to(torch.int64)
    return label.masked_fill_(label == IGNORED_BYTE, IGNORE_LABEL)
