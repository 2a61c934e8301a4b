"""Image files without boxes: what `predict --input` reads for a detector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datamodules.annotated_images import AnnotatedImage
from datamodules.detection import DetectionDataModule, DetectionFiles
from datamodules.fitted_reader import FittedReader, upright_size
from datamodules.image_reader import input_files
from toolkit.types import Stage


class DetectionInputDataModule(DetectionDataModule):
    """Files, and all images below folders, for prediction only. A file that cannot be read stays in the list.

    Args:
        paths: Files and folders.
        image_size: ``(H, W)`` that images are resized to fit, with their proportions kept.
        in_channels: 3 for RGB, 1 for grey.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A path does not exist, or there is no image at all.
    """

    def __init__(self, paths: Sequence[str], image_size: tuple[int, int], in_channels: int, **loader: Any) -> None:
        super().__init__(**loader)
        self.class_names = []
        self.image_size, self.in_channels = image_size, in_channels
        self._reader = FittedReader(image_size, in_channels)
        self.paths = input_files(paths)

    def build(self, stage: Stage) -> DetectionFiles:
        """All files."""
        images = [_without_boxes(path, upright_size(path) or self.image_size) for path in self.paths]
        return DetectionFiles(images, self._reader, skip_unreadable=True)

    def image_id(self, index: int) -> int | str:
        """The file's name: of these files no annotation knows a number."""
        return self.paths[index].name

    def sample_name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why files cannot be read."""
        return {index: reason for index in indices if (reason := self._reader.reason(self.paths[index]))}


def _without_boxes(path: Path, size: tuple[int, int]) -> AnnotatedImage:
    none = torch.zeros(0)
    return AnnotatedImage(path, size, none.reshape(0, 4), none.long(), none.bool(), none, 0)
