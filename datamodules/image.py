"""Images with one label each: in memory, as files, and the DataModule over both.

Shape legend: N samples, B batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from datamodules.image_reader import ImageReader, UnreadableImageError
from datamodules.pictures import LARGEST_ON_DEVICE, PictureDataModule, Pictures
from datamodules.sampler import BatchIndex
from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, Stage


class LabelledImages(Pictures, ABC):
    """Images and their labels; a batch comes with the keys of its samples.

    Args:
        label: ``(N,)``, int64.
    """

    def __init__(self, label: Tensor) -> None:
        self.label = label

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, batch: BatchIndex) -> ImageBatch:
        image, label = self.read(batch.index)
        index = batch.index.to(image.device)
        return ImageBatch(image, label, index, sample_keys(self.seed, batch.epoch, index))

    @abstractmethod
    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(B, C, H, W)``, uint8, and labels ``(B,)`` of samples ``(B,)``."""


class ImageArrays(LabelledImages):
    """A whole split in memory; batches are cut out where it lies.

    Args:
        image: ``(N, C, H, W)``, uint8.
        label: ``(N,)``, int64.
    """

    def __init__(self, image: Tensor, label: Tensor) -> None:
        super().__init__(label)
        self.image = image

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out a batch."""
        index = index.to(self.image.device)
        return self.image[index], self.label[index]

    def to(self, device: torch.device) -> None:
        """Move images and labels once, so that no batch has to be moved."""
        if self.image.nbytes <= LARGEST_ON_DEVICE:
            self.image, self.label = self.image.to(device), self.label.to(device)

    def subset(self, index: Tensor) -> Self:
        """Some of the samples."""
        return type(self)(self.image[index], self.label[index])


class ImageFiles(LabelledImages):
    """A split on disk; the files of a batch are decoded when it is asked for.

    Args:
        paths: N files.
        label: ``(N,)``, int64.
        reader: From a file to pixels.
        skip_unreadable: Give a file that cannot be read as a black image that counts nowhere, instead of raising.
    """

    def __init__(self, paths: Sequence[Path], label: Tensor, reader: ImageReader, skip_unreadable: bool) -> None:
        super().__init__(label)
        self.paths = paths
        self.reader = reader
        self.skip_unreadable = skip_unreadable

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a batch.

        Raises:
            UserError: A file cannot be read.
        """
        label = self.label[index]
        images = [self._image(int(sample), label, place) for place, sample in enumerate(index)]
        return torch.stack(images), label

    def _image(self, sample: int, label: Tensor, place: int) -> Tensor:
        try:
            return self.reader(self.paths[sample])
        except UnreadableImageError as error:
            if not self.skip_unreadable:
                raise UserError(
                    f"data: {error}. Mend or remove the file, or write data.init_args.on_unreadable: skip."
                ) from error
            label[place] = IGNORE_LABEL
            return self.reader.blank()

    def reason(self, sample: int) -> str | None:
        """Why a file cannot be read; None if it can."""
        return self.reader.reason(self.paths[sample])

    def in_memory(self) -> ImageArrays:
        """Decode everything once."""
        return ImageArrays(*self.read(torch.arange(len(self))))


class ImageDataModule(PictureDataModule[LabelledImages], ABC):
    """Images with one label each; see `datamodules.pictures.PictureDataModule`."""

    def baseline(self, stage: Stage) -> Baseline:
        """Accuracy of always answering the class that is most frequent in training."""
        train, label = self.dataset("train").label, self.dataset(stage).label
        majority = train[train != IGNORE_LABEL].mode().values
        right = label[label != IGNORE_LABEL] == majority
        return Baseline("majority class", {"acc": float(right.float().mean())})


def pixel_statistics(image: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel on the scale ``[0, 1]``, from the histogram of its values.

    Args:
        image: ``(N, C, H, W)``, uint8.

    Returns:
        (means, standard deviations), C of each; 1 where a channel is constant.

    >>> pixel_statistics(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    ([0.5], [0.5])
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in image.unbind(1):
        share = channel.flatten().bincount(minlength=256).double() / channel.numel()
        mean = (share * value).sum()
        means.append(float(mean))
        deviations.append(float((share * (value - mean) ** 2).sum().sqrt()) or 1.0)
    return means, deviations
