"""Images with one label a pixel: in memory, as files, and the DataModule over both.

Shape legend: N images, B batch, C channels, H height, W width, K classes.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from datamodules.pictures import LARGEST_ON_DEVICE, PictureDataModule, Pictures
from datamodules.sampler import BatchIndex
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, Baseline, SegmentationBatch, Stage

IGNORED_BYTE = 255
"""How a pixel without a label is written in a mask file and in memory, as PASCAL VOC does."""
COUNTED = 1000
"""Of how many training masks the most frequent class is that of the naive baseline."""


class LabelledPixels(Pictures, ABC):
    """Images and the labels of their pixels; a batch comes with the keys of its samples."""

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
        index = index.to(self.image.device)
        return self.image[index], self.mask[index]

    def masks(self, index: Tensor) -> Tensor:
        """Cut out masks."""
        return self.mask[index.to(self.mask.device)]

    def to(self, device: torch.device) -> None:
        """Move images and masks once, so that no batch has to be moved."""
        if self.image.nbytes <= LARGEST_ON_DEVICE:
            self.image, self.mask = self.image.to(device), self.mask.to(device)


class SegmentationDataModule(PictureDataModule[LabelledPixels], ABC):
    """Images with one label a pixel; see `datamodules.pictures.PictureDataModule`."""

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
            total += split.masks(part).flatten().cpu().bincount(minlength=256)
        return total[: self.num_classes]


def as_labels(mask: Tensor) -> Tensor:
    """Masks as class numbers, int64, `IGNORED_BYTE` as ``IGNORE_LABEL``.

    >>> as_labels(torch.tensor([0, 2, 255], dtype=torch.uint8)).tolist()
    [0, 2, -100]
    """
    label = mask.to(torch.int64)
    return label.masked_fill_(label == IGNORED_BYTE, IGNORE_LABEL)
