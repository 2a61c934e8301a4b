"""The DataModule over annotated image files, whatever the format of the annotations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.annotated_images import AnnotatedImage, PackedBoxes
from datamodules.detection import DetectionDataModule, DetectionFiles, DetectionImages
from datamodules.fitted_reader import FittedReader
from datamodules.image_reader import imagenet_statistics, size_pair
from datamodules.splits import hold_out
from toolkit.errors import UserError
from toolkit.types import Stage

Splits = dict[Stage, list[AnnotatedImage]]


class AnnotatedFilesDataModule(DetectionDataModule, ABC):
    """Image files with boxes. A subclass reads its format in ``__init__`` and gives the result to `hold`.

    Args:
        image_size: Height and width that images are resized to fit, with their proportions kept; or one number for
            both.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode and resize everything once and keep it; the batches are the same.
        on_unreadable: Stop at a file that cannot be read, naming it, or count it as an image without objects.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: Literal[1, 3],
        in_memory: bool,
        on_unreadable: Literal["error", "skip"],
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.image_size = size_pair(image_size)
        self.in_channels = in_channels
        self.in_memory = in_memory
        self.on_unreadable = on_unreadable
        self.pixel_mean, self.pixel_std = imagenet_statistics(in_channels)
        self._reader = FittedReader(self.image_size, in_channels)
        self._images: Splits = {}

    def hold(self, images: Splits, val_size: int | float, test_size: int | float | None, split_seed: int) -> None:
        """Keep the splits, and hold out of the training images those that are missing.

        Args:
            images: By stage; "train" at least.
            val_size: How many for validation, or as float which share, if it is missing.
            test_size: Likewise; None: no test.
            split_seed: Which.
        """
        if not images["train"]:
            raise UserError(f"data: there is no image left to train on; {self.remedy('train')}.")
        for stage, size in (("test", test_size), ("val", val_size)):
            if stage not in images and size:
                images["train"], images[stage] = hold_out(  # type: ignore[index]
                    images["train"], size, split_seed, rarest_classes(images["train"])
                )
        self._images = images

    def build(self, stage: Stage) -> DetectionImages:
        """The files of a split, or their pixels."""
        files = DetectionFiles(self._images_of(stage), self._reader, self.on_unreadable == "skip")
        return files.in_memory() if self.in_memory else files

    def boxes_of(self, stage: Stage) -> tuple[PackedBoxes, Tensor]:
        """From the annotations alone."""
        images = self._images_of(stage)
        return PackedBoxes.of(images), torch.tensor([image.size for image in images], dtype=torch.int64)

    def _images_of(self, stage: Stage) -> Sequence[AnnotatedImage]:
        images = self._images.get(stage)
        if not images:
            raise UserError(f"data: there are no images to {stage} on; {self.remedy(stage)}.")
        return images

    @abstractmethod
    def remedy(self, stage: Stage) -> str:
        """What to write so that there are images for a stage."""

    def image_id(self, index: int) -> int:
        """What the annotation file calls an image of the test split."""
        return self._images["test"][index].image_id

    def sample_name(self, index: int) -> str:
        """The path of a test image."""
        return str(self._images["test"][index].path)

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why test images cannot be read."""
        images = self._images["test"]
        reasons = {index: self._reader.reason(images[index].path, images[index].size) for index in indices}
        return {index: reason for index, reason in reasons.items() if reason}


def rarest_classes(images: Sequence[AnnotatedImage]) -> Tensor:
    """Of each image ``(N,)`` the class in it that is rarest in all, by which a split gives each its share of all."""
    boxes = torch.cat([image.label for image in images]) if images else torch.zeros(0, dtype=torch.int64)
    number = boxes.bincount()
    none = len(number)
    rarest = [int(image.label[number[image.label].argmin()]) if len(image.label) else none for image in images]
    return torch.tensor(rarest, dtype=torch.int64)
