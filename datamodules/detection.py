"""Images with boxes: as files, in memory, and the DataModule over both.

Shape legend: N images, B batch, C channels, H height, W width, M boxes of an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from datamodules.annotated_images import AnnotatedImage, PackedBoxes
from datamodules.annotation_findings import NAMED
from datamodules.box_baseline import mean_boxes_baseline
from datamodules.fitted_reader import FittedReader
from datamodules.image_reader import UnreadableImageError
from datamodules.pictures import LARGEST_ON_DEVICE, PictureDataModule, Pictures
from datamodules.sampler import BatchIndex
from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.types import IGNORE_LABEL, Baseline, DetectionBatch, Stage


class Pixels(NamedTuple):
    """Images of a batch, each in the upper left corner of its place."""

    image: Tensor
    """``(B, C, H, W)``, uint8."""
    size: Tensor
    """``(B, 2)``, int64, height and width of each within H and W."""
    original_size: Tensor
    """``(B, 2)``, int64, those of the file, in whose pixels its boxes are kept."""
    readable: Tensor
    """``(B,)``, bool; the others are black and count as images without objects."""


class DetectionImages(Pictures, ABC):
    """Images and their boxes; a batch comes with the keys of its samples.

    Args:
        boxes: Of N images.
    """

    def __init__(self, boxes: PackedBoxes) -> None:
        self.boxes = boxes

    def __len__(self) -> int:
        return len(self.boxes.count)

    def __getitem__(self, batch: BatchIndex) -> DetectionBatch:
        image, size, original_size, readable = self.read(batch.index)
        box, label, crowd, area = self.boxes.padded(batch.index)
        scale = (size.float() / original_size).flip(1).repeat(1, 2)  # (B, 4), of x, y, x and y
        index = batch.index.to(image.device)
        return DetectionBatch(
            image,
            size * readable[:, None],
            original_size,
            box * scale[:, None] * readable[:, None, None],
            label.where(readable[:, None], IGNORE_LABEL),
            crowd & readable[:, None],
            area * readable[:, None],
            index,
            sample_keys(self.seed, batch.epoch, index),
        )

    @abstractmethod
    def read(self, index: Tensor) -> Pixels:
        """The images of samples ``(B,)``."""

    @abstractmethod
    def original_sizes(self) -> Tensor:
        """Height and width of each image's file, ``(N, 2)``, int64, on the CPU."""


class DetectionArrays(DetectionImages):
    """A whole split in memory; batches are cut out where it lies.

    Args:
        pixels: Of N images.
        boxes: Theirs.
    """

    def __init__(self, pixels: Pixels, boxes: PackedBoxes) -> None:
        super().__init__(boxes)
        self.pixels = pixels

    def read(self, index: Tensor) -> Pixels:
        """Cut out a batch."""
        index = index.to(self.pixels.image.device)
        return Pixels(*(field[index] for field in self.pixels))

    def original_sizes(self) -> Tensor:
        """Height and width of each file."""
        return self.pixels.original_size.cpu()

    def to(self, device: torch.device) -> None:
        """Move images and boxes once, so that no batch has to be moved."""
        if self.pixels.image.device != device and self.pixels.image.nbytes <= LARGEST_ON_DEVICE:
            self.pixels = Pixels(*(field.to(device) for field in self.pixels))
            self.boxes = self.boxes.to(device)


class DetectionFiles(DetectionImages):
    """A split on disk; the files of a batch are decoded when it is asked for.

    Args:
        images: Files and boxes.
        reader: From a file to pixels.
        skip_unreadable: Give a file that cannot be read as a black image without objects, instead of raising.
    """

    def __init__(self, images: Sequence[AnnotatedImage], reader: FittedReader, skip_unreadable: bool) -> None:
        super().__init__(PackedBoxes.of(images))
        self.paths = [image.path for image in images]
        self.size = torch.tensor([image.size for image in images], dtype=torch.int64).reshape(-1, 2)
        self.reader = reader
        self.skip_unreadable = skip_unreadable
        self._told: set[str] = set()

    def read(self, index: Tensor) -> Pixels:
        """Decode a batch.

        Raises:
            UserError: A file cannot be read, or has other proportions than its annotation.
        """
        images, sizes, errors = [], [], {}
        for place, sample in enumerate(index.tolist()):
            annotated = (int(self.size[sample, 0]), int(self.size[sample, 1]))
            try:
                fitted = self.reader(self.paths[sample], annotated)
            except UnreadableImageError as error:
                errors[place] = error
                fitted = self.reader.blank(annotated)
            images.append(fitted.image)
            sizes.append(fitted.size)
        self._tell([str(error) for error in errors.values()])
        readable = torch.tensor([place not in errors for place in range(len(index))])
        return Pixels(torch.stack(images), torch.tensor(sizes), self.size[index], readable)

    def _tell(self, errors: Sequence[str]) -> None:
        new = [error for error in errors if error not in self._told]  # in each process that reads
        self._told.update(new)
        if not new:
            return
        text = f"data: {'; '.join(new[:NAMED])}{f'; and {len(new) - NAMED} more' if len(new) > NAMED else ''}"
        if not self.skip_unreadable:
            raise UserError(f"{text}. Mend or remove them, or write data.init_args.on_unreadable: skip.")
        rank_zero_warn(f"{text}; what cannot be read counts as a black image without objects.")

    def original_sizes(self) -> Tensor:
        """Height and width of each file."""
        return self.size

    def in_memory(self) -> DetectionArrays:
        """Decode everything once."""
        return DetectionArrays(self.read(torch.arange(len(self))), self.boxes)


class DetectionDataModule(PictureDataModule[DetectionImages], ABC):
    """Images with any number of labelled boxes, each resized to fit ``image_size``; see `PictureDataModule`.

    Args:
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    category_ids: Sequence[int]
    """What the annotation files call the classes; predictions are written with them."""

    def __init__(self, **loader: Any) -> None:
        super().__init__(**loader)
        self._baselines: dict[Stage, Baseline] = {}

    def image_id(self, index: int) -> int | str:
        """What the annotation file calls an image of the test split."""
        return index

    def baseline(self, stage: Stage) -> Baseline:
        """Average precision of boxes of the mean size in random places."""
        if stage not in self._baselines:
            self._baselines[stage] = mean_boxes_baseline(self.boxes_of("train"), self.boxes_of(stage), self.num_classes)
        return self._baselines[stage]

    def boxes_of(self, stage: Stage) -> tuple[PackedBoxes, Tensor]:
        """Boxes of a split, and the sizes ``(N, 2)`` of its files, without their pixels where that is possible."""
        split = self.dataset(stage)
        return split.boxes, split.original_sizes()
