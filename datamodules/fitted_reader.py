"""From image files to pixels that fit within one size. Shape legend: C channels, H height, W width."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.image_reader import PictureReader, UnreadableImageError, open_image

ORIENTATION = 0x0112
"""EXIF's tag; from 5 on the picture lies on its side."""


class FittedImage(NamedTuple):
    """Pixels of a file, in the upper left corner of their place."""

    image: Tensor
    """``(C, H, W)``, uint8, zeros right of it and below it."""
    size: tuple[int, int]
    """Height and width of the image within H and W."""


class FittedReader(PictureReader):
    """Decodes and resizes an image, with its proportions kept, until it fits; antialiased.

    Args:
        image_size: ``(H, W)``.
        in_channels: 1 for grey, 3 for RGB.
    """

    def __call__(self, path: Path, annotated: tuple[int, int] | None = None) -> FittedImage:
        """Read a file.

        Args:
            path: The file.
            annotated: Height and width in whose pixels its boxes are. A smaller or larger copy with the same
                proportions will do.

        Raises:
            UnreadableImageError: Truncated, no image, not to be opened, or of other proportions than annotated.
        """
        from PIL import Image

        decoded = open_image(path, self.in_channels, annotated)
        found = (decoded.height, decoded.width)
        original = annotated or found
        if not _same_proportions(found, original):
            raise UnreadableImageError(
                f"cannot use {str(path)!r}: it has {found[1]}x{found[0]} pixels, and its annotation says "
                f"{original[1]}x{original[0]}"
            )
        height, width = fitted_size(original, self.image_size)
        pixels = np.asarray(decoded.resize((width, height), Image.Resampling.BILINEAR))  # antialiased by Pillow
        image = torch.zeros(self.in_channels, *self.image_size, dtype=torch.uint8)
        image[:, :height, :width] = torch.from_numpy(pixels.reshape(height, width, -1).copy()).permute(2, 0, 1)
        return FittedImage(image, (height, width))

    def blank(self, annotated: tuple[int, int] | None = None) -> FittedImage:
        """A black image for one that cannot be read."""
        image = torch.zeros(self.in_channels, *self.image_size, dtype=torch.uint8)
        return FittedImage(image, fitted_size(annotated or self.image_size, self.image_size))


def upright_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture as it is shown, from the head of its file; None if that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            lies = opened.getexif().get(ORIENTATION, 1) >= 5 and opened.format != "TIFF"  # which Pillow turns itself
            return (opened.width, opened.height) if lies else (opened.height, opened.width)
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, ... for damaged files
        return None


def fitted_size(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is resized, in proportion, to touch the sides of its room.

    >>> fitted_size((480, 640), (320, 320))
    (240, 320)
    """
    scale = min(room[0] / size[0], room[1] / size[1])
    height, width = (max(1, min(limit, round(side * scale))) for side, limit in zip(size, room, strict=True))
    return height, width


def _same_proportions(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one is the other, enlarged or reduced to whole pixels."""
    return a == b or abs(a[0] * b[1] - a[1] * b[0]) <= max(a[0], a[1], b[0], b[1])
