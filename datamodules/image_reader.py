"""From image files to pixels of one size. Shape legend: C channels, H height, W width."""

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import UserError

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
"""Files with these endings are images."""

PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB pixels: reading all files of a folder for its own would delay the start."""

Fit = Literal["crop", "stretch"]
"""How pictures of any shape come to one size: the proportions kept and the middle cut out, or all of it resized."""


class UnreadableImageError(Exception):
    """A file that is no readable image; says which and why."""


class PictureReader(ABC):
    """What reads a file into pixels of one size.

    Args:
        image_size: ``(H, W)``.
        in_channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: An impossible size or number of channels.
    """

    def __init__(self, image_size: tuple[int, int], in_channels: int) -> None:
        if in_channels not in (1, 3):
            raise UserError(f"data.init_args.in_channels: need 1 (grey) or 3 (RGB), got {in_channels}.")
        if min(image_size) < 1:
            raise UserError(f"data.init_args.image_size: need positive height and width, got {list(image_size)}.")
        self.image_size = image_size
        self.in_channels = in_channels

    @abstractmethod
    def __call__(self, path: Path) -> Any:
        """Read a file.

        Raises:
            UnreadableImageError: It cannot be read.
        """

    def reason(self, path: Path, *more: Any) -> str | None:
        """Why a file cannot be read, given what reading it takes; None if it can."""
        try:
            self(path, *more)
        except UnreadableImageError as error:
            return str(error)
        return None


class ImageReader(PictureReader):
    """Decodes, turns upright by the EXIF tag, converts to grey or RGB, resizes and crops to one size.

    The image is scaled, with its proportions kept, until its shorter side fits, and the middle is cut out; or it is
    stretched, so that nothing is lost but its proportions.

    Args:
        image_size: ``(H, W)``.
        in_channels: 1 for grey, 3 for RGB.
        fit: "crop" or "stretch".
    """

    def __init__(self, image_size: tuple[int, int], in_channels: int, fit: Fit = "crop") -> None:
        super().__init__(image_size, in_channels)
        self.fit = fit

    def __call__(self, path: Path) -> Tensor:
        """Pixels of a file, ``(C, H, W)``, uint8.

        Raises:
            UnreadableImageError: Truncated, no image, or not to be opened.
        """
        return self.pixels(open_image(path, self.in_channels))

    def pixels(self, picture: "PIL.Image.Image") -> Tensor:
        """Pixels of a decoded picture at the size asked for, ``(C, H, W)``, uint8."""
        from PIL.Image import Resampling

        height, width = self.image_size
        pixels = torch.from_numpy(np.array(self.fitted(picture, Resampling.BILINEAR)))  # (H, W) or (H, W, C)
        return pixels.reshape(height, width, self.in_channels).permute(2, 0, 1).contiguous()

    def fitted(self, picture: "PIL.Image.Image", method: "PIL.Image.Resampling") -> "PIL.Image.Image":
        """A picture at the size asked for."""
        from PIL import ImageOps

        height, width = self.image_size
        if self.fit == "stretch":
            return picture.resize((width, height), method)
        return ImageOps.fit(picture, (width, height), method=method)

    def blank(self) -> Tensor:
        """A black image, ``(C, H, W)``, uint8."""
        return torch.zeros(self.in_channels, *self.image_size, dtype=torch.uint8)


def open_image(path: Path, in_channels: int, size: tuple[int, int] | None = None) -> "PIL.Image.Image":
    """A file decoded, turned upright by its EXIF tag, in grey or RGB.

    Args:
        path: The file.
        in_channels: 1 for grey, 3 for RGB.
        size: ``(H, W)`` that it was annotated with: a file that has it as it is stored, and not when it is upright, was
            annotated as it is stored, and stays so.

    Raises:
        UnreadableImageError: Truncated, no image, or not to be opened.
    """
    import PIL.Image
    from PIL import ImageOps

    try:
        with PIL.Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if size is not None and upright.size != (size[1], size[0]) == image.size:
                upright = image
            if upright.mode == "F" or (upright.mode == "I" and image.format not in ("PNG", "PPM")):
                raise ValueError(
                    f"its pixels are of Pillow's mode {upright.mode}, 32 bits or signed, where no value is known to be "
                    "white; convert it to 8 or 16 bits"
                )
            if upright.mode.startswith("I"):  # 16 bits: Pillow would cut the values off at 255
                upright = PIL.Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("L" if in_channels == 1 else "RGB")
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, ... for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"cannot read {str(path)!r} ({reason})") from error


def imagenet_statistics(in_channels: int) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of ImageNet's pixels by channel, or for grey the mean of both, on the scale ``[0, 1]``."""
    if in_channels == 3:
        return PIXEL_MEAN, PIXEL_STD
    return (sum(PIXEL_MEAN) / 3,), (sum(PIXEL_STD) / 3,)


def input_files(paths: Sequence[str]) -> list[Path]:
    """The files of `predict --input`, and all images below its folders.

    Raises:
        UserError: A path does not exist, or there is no image at all.
    """
    given = [existing(path, "--input") for path in paths]
    files = [file for path in given for file in (image_files(path) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"--input: no images in {', '.join(map(repr, paths))}.")
    return files


def image_files(folder: Path) -> Iterator[Path]:
    """Image files in a folder and below, in the order of their names; hidden ones are left out."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent) / name


def existing(path: str | Path, option: str) -> Path:
    """A path that exists.

    Args:
        path: As the user wrote it.
        option: The key of the config that names it.

    Raises:
        UserError: It does not exist; with the nearest name beside it.
    """
    path = Path(path).expanduser()
    if not path.exists():
        siblings = [str(p) for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(str(path), siblings, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" The working directory is {os.getcwd()!r}."
        raise UserError(f"{option}: no such file or folder: {str(path)!r}.{hint}")
    return path


def size_pair(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of one number for both, or of the two."""
    return (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
