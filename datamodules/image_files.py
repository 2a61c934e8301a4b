"""Image files without labels: what `predict --input` reads."""

from collections.abc import Sequence
from typing import Any

import torch

from datamodules.image import ImageDataModule, ImageFiles
from datamodules.image_reader import ImageReader, input_files
from toolkit.types import Stage


class ImageFilesDataModule(ImageDataModule):
    """Files, and all images below folders, for prediction only. A file that cannot be read stays in the list.

    Args:
        paths: Files and folders.
        image_size: ``(H, W)`` that images are resized and cropped to.
        in_channels: 3 for RGB, 1 for grey.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A path does not exist, or there is no image at all.
    """

    def __init__(self, paths: Sequence[str], image_size: tuple[int, int], in_channels: int, **loader: Any) -> None:
        super().__init__(**loader)
        self.class_names = []
        self.image_size, self.in_channels = image_size, in_channels
        self._reader = ImageReader(image_size, in_channels)
        self.paths = input_files(paths)

    def build(self, stage: Stage) -> ImageFiles:
        """All files; without labels, any class will do."""
        return ImageFiles(self.paths, torch.zeros(len(self.paths), dtype=torch.int64), self._reader, True)

    def sample_name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why files cannot be read."""
        split = self.build("test")
        return {index: reason for index in indices if (reason := split.reason(index))}
