"""Windows of images, cut out or resampled. Shape legend: B batch, C channels, H height, W width."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.errors import UserError
from toolkit.nn.augmentation.base import Transform, to_float
from toolkit.nn.augmentation.checks import check_range, pair
from toolkit.nn.augmentation.draws import RECTANGLE_DRAWS, Rectangles, below, rectangles
from toolkit.types import IGNORE_LABEL

PaddingMode = Literal["constant", "edge", "reflect"]


class CropPosition(NamedTuple):
    """The upper left corner of each window in the padded image."""

    top: Tensor
    """``(B,)``, int64."""
    left: Tensor
    """``(B,)``, int64."""


class RandomCrop(Transform):
    """Pad on all sides and cut out a window, every position equally likely; the dtype stays.

    Args:
        size: Height and width of the window, or one number for both; the image's own size if None.
        padding: Pixels added on each side.
        padding_mode: Black ("constant"), the outermost pixel ("edge"), or mirrored without repeating it ("reflect").

    Raises:
        UserError: A size or padding out of range; from ``forward``, a window larger than the padded image, or a
            reflection of more than there is.
    """

    draws = 2

    def __init__(
        self, size: int | tuple[int, int] | None = None, padding: int = 0, padding_mode: PaddingMode = "constant"
    ) -> None:
        super().__init__()
        if padding < 0:
            raise UserError(f"RandomCrop.padding: need 0 or more pixels, got {padding}; such as 4.")
        self.size = None if size is None else pair("RandomCrop.size", size)
        self.padding = padding
        self.padding_mode = padding_mode

    def make_params(self, u: Tensor, image_size: tuple[int, int]) -> CropPosition:
        """Positions of the windows in padded images that were ``image_size`` before, ``(B, 2)`` uniforms in ``u``."""
        height, width = self.size or image_size
        rows, columns = (side + 2 * self.padding for side in image_size)
        return CropPosition(below(u[:, 0], rows - height + 1), below(u[:, 1], columns - width + 1))

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Windows ``(B, C, *size)`` of images ``(B, C, H, W)``."""
        return self._windows(image, u, outside=0)

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """The labels in the same windows; reflected pixels have those of their originals."""
        return self._windows(mask[:, None], u, outside=IGNORE_LABEL)[:, 0]

    def _windows(self, image: Tensor, u: Tensor, outside: int) -> Tensor:
        image_size = (image.shape[2], image.shape[3])
        height, width = self._checked_size(image_size)
        top, left = self.make_params(u, image_size)
        padded = _pad(image, self.padding, self.padding_mode, outside)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, tops, lefts, height, width), a view
        return windows[torch.arange(len(image), device=image.device), :, top, left]

    def _checked_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        if self.padding_mode == "reflect" and self.padding >= min(image_size):
            raise UserError(
                f"RandomCrop.padding: cannot reflect {self.padding} pixels of images of {list(image_size)}; "
                f'write at most {min(image_size) - 1}, or padding_mode "edge".'
            )
        height, width = self.size or image_size
        rows, columns = (side + 2 * self.padding for side in image_size)
        if height > rows or width > columns:
            raise UserError(
                f"RandomCrop.size: {[height, width]} is larger than the images of {list(image_size)} with padding "
                f"{self.padding}, which are {[rows, columns]}; write a smaller size or more padding."
            )
        return height, width


def _pad(image: Tensor, padding: int, mode: PaddingMode, outside: int = 0) -> Tensor:
    """Pad height and width. Reflection by slices: torch's own is not implemented for uint8 on every device."""
    if mode == "constant" or padding == 0:
        return F.pad(image, (padding, padding, padding, padding), value=outside)
    for dim in (2, 3):
        n = image.shape[dim]
        if mode == "reflect":
            before = image.narrow(dim, 1, padding).flip(dim)
            after = image.narrow(dim, n - 1 - padding, padding).flip(dim)
        else:
            before, after = (image.narrow(dim, at, 1).repeat_interleave(padding, dim) for at in (0, n - 1))
        image = torch.cat([before, image, after], dim=dim)
    return image


class RandomResizedCrop(Transform):
    """Resample a rectangle of random area and shape to one size: bilinear, antialiased; gives float32.

    Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6. As in torchvision, the first of ten drawn
    rectangles that fits is taken, and if none does, the largest central one whose shape is in ``ratio``.

    Args:
        size: Height and width of the result, or one number for both.
        scale: Range of the rectangle's area, as share of the image's.
        ratio: Range of the rectangle's width / height.

    Raises:
        UserError: A size or range that makes no sense.
    """

    draws = RECTANGLE_DRAWS

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        super().__init__()
        check_range("RandomResizedCrop.scale", scale, 0, 1, (0.08, 1.0), open_low=True)
        check_range("RandomResizedCrop.ratio", ratio, 0, float("inf"), (0.75, 1.33), open_low=True)
        self.size = pair("RandomResizedCrop.size", size)
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])

    def make_params(self, u: Tensor, image_size: tuple[int, int]) -> Rectangles:
        """The rectangles cut out of images of ``image_size``."""
        drawn, found = rectangles(u, image_size, self.scale, self.ratio, largest=image_size)
        H, W = image_size
        height = max(1, min(H, round(W / self.ratio[0])))
        width = max(1, min(W, round(H * self.ratio[1])))
        central = ((H - height) // 2, (W - width) // 2, height, width)
        return Rectangles(*(a.where(found, b) for a, b in zip(drawn, central, strict=True)))

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Resampled rectangles ``(B, C, *size)``, float32, of images ``(B, C, H, W)``."""
        H, W = image.shape[2:]
        top, left, height, width = self.make_params(u, (H, W))
        rows = _weights(top, height, self.size[0], H)  # (B, height, H)
        columns = _weights(left, width, self.size[1], W)  # (B, width, W)
        narrow = torch.bmm(to_float(image).flatten(1, 2), columns.mT).view(len(image), -1, H, self.size[1])
        return torch.matmul(rows[:, None], narrow)  # (B, C, height, width)

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """The labels of the nearest pixels of the same rectangles."""
        top, left, height, width = self.make_params(u, (mask.shape[1], mask.shape[2]))
        row = _nearest(top, height, self.size[0])  # (B, height)
        column = _nearest(left, width, self.size[1])  # (B, width)
        sample = torch.arange(len(mask), device=mask.device)[:, None, None]
        return mask[sample, row[:, :, None], column[:, None, :]]


def _nearest(start: Tensor, length: Tensor, n_out: int) -> Tensor:
    """The pixel in which the centre of each resampled one lies, ``(B, n_out)``; intervals as for `_weights`."""
    resampled = torch.arange(n_out, device=start.device)
    return start[:, None] + (2 * resampled + 1) * length[:, None] // (2 * n_out)  # whole numbers, which do not round


def _weights(start: Tensor, length: Tensor, n_out: int, n_in: int) -> Tensor:
    """Share of each pixel in each resampled one, along one side: a triangle over the pixels that it stands for.

    Only pixels of the interval count. A triangle narrower than a pixel's distance would miss pixels, so when enlarging
    its half width stays 1, which is plain bilinear interpolation.

    Args:
        start: ``(B,)``, first pixel of the interval.
        length: ``(B,)``, its pixels.
        n_out: Pixels after resampling.
        n_in: Pixels of the image.

    Returns:
        ``(B, n_out, n_in)``, float32, rows sum to 1.
    """
    start, length = (side.to(torch.float32)[:, None, None] for side in (start, length))
    pixel, resampled = (torch.arange(n, dtype=torch.float32, device=start.device) + 0.5 for n in (n_in, n_out))
    step = length / n_out  # (B, 1, 1)
    center = start + step * resampled[:, None]  # (B, n_out, 1)
    triangle = (1 - (pixel - center).abs() / step.clamp(min=1)).clamp(min=0)  # (B, n_out, n_in)
    triangle = triangle * ((pixel > start) & (pixel < start + length)).to(torch.float32)
    return triangle / triangle.sum(dim=2, keepdim=True)
