"""Image files without labels: what `predict --input` reads for a segmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.fitted_reader import upright_size
from datamodules.image_reader import ImageReader, UnreadableImageError, input_files
from datamodules.segmentation import IGNORED_BYTE, LabelledPixels, SegmentationDataModule
from toolkit.types import Stage


class UnlabelledPixels(LabelledPixels):
    """Files; of one that cannot be read every pixel is without a label, of all others they have any.

    Args:
        paths: N files.
        reader: From a file to pixels.
    """

    def __init__(self, paths: Sequence[Path], reader: ImageReader) -> None:
        self.paths, self.reader = paths, reader

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a batch."""
        images = [self._image(int(sample)) for sample in index]
        readable = torch.tensor([image is not None for image in images])
        image = torch.stack([self.reader.blank() if image is None else image for image in images])
        mask = torch.zeros(len(image), *image.shape[2:], dtype=torch.uint8)
        return image, mask.masked_fill_(~readable[:, None, None], IGNORED_BYTE)

    def masks(self, index: Tensor) -> Tensor:
        """What `read` gives for them."""
        return self.read(index)[1]

    def _image(self, sample: int) -> Tensor | None:
        try:
            return self.reader(self.paths[sample])
        except UnreadableImageError:
            return None


class SegmentationInputDataModule(SegmentationDataModule):
    """Files, and all images below folders, for prediction only, stretched so that every pixel gets an answer.

    Args:
        paths: Files and folders.
        image_size: ``(H, W)`` that images are resized to.
        in_channels: 3 for RGB, 1 for grey.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A path does not exist, or there is no image at all.
    """

    def __init__(self, paths: Sequence[str], image_size: tuple[int, int], in_channels: int, **loader: Any) -> None:
        super().__init__(**loader)
        self.class_names = []
        self.image_size, self.in_channels = image_size, in_channels
        self._reader = ImageReader(image_size, in_channels, "stretch")
        self.paths = input_files(paths)

    def build(self, stage: Stage) -> UnlabelledPixels:
        """All files."""
        return UnlabelledPixels(self.paths, self._reader)

    def sample_name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def sample_size(self, index: int) -> tuple[int, int]:
        """Height and width of the file's picture, upright."""
        return upright_size(self.paths[index]) or self.image_size

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why files cannot be read."""
        return {index: reason for index in indices if (reason := self._reader.reason(self.paths[index]))}
