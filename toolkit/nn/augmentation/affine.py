"""Rotated, shifted, scaled and sheared images. Shape legend: B batch, C channels, H height, W width."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.nn.augmentation.base import Transform, to_float
from toolkit.nn.augmentation.checks import check_intensity, check_range, intensity
from toolkit.nn.augmentation.draws import between
from toolkit.types import IGNORE_LABEL

Shear = float | tuple[float, float] | tuple[float, float, float, float]


class AffineParameters(NamedTuple):
    """What torchvision's ``affine`` takes, for each sample."""

    angle: Tensor
    """``(B,)``, degrees, clockwise."""
    translate: Tensor
    """``(B, 2)``, whole pixels to the right and down."""
    scale: Tensor
    """``(B,)``."""
    shear: Tensor
    """``(B, 2)``, degrees, along x and y."""


class RandomAffine(Transform):
    """Rotate, shift, scale and shear about the image's centre; gives float32.

    Departure from torchvision, with bilinear interpolation and ``fill`` not 0: there a pixel on the image's border is
    weighted twice by its share, which darkens it; here it is the mixture of image and fill.

    Args:
        degrees: Range of the angle; one number d means ``[-d, d]``.
        translate: Largest shift along x and y, as share of width and height; none if None.
        scale: Range of the factor; none if None.
        shear: Range of the angle along x, one number as for ``degrees``; with four numbers also that along y.
        interpolation: "nearest" keeps the image's values, "bilinear" looks smoother.
        fill: What lies outside the image, in ``[0, 1]``; one number, or one a channel.

    Raises:
        UserError: A range that makes no sense.
    """

    draws = 6

    def __init__(
        self,
        degrees: float | tuple[float, float],
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: Shear = 0.0,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        fill: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        self.degrees = _angles("RandomAffine.degrees", degrees, 180)
        self.translate = translate or (0.0, 0.0)
        for share in self.translate:
            check_range("RandomAffine.translate", (0, share), 0, 1, (0.1, 0.1))
        self.scale = scale or (1.0, 1.0)
        check_range("RandomAffine.scale", self.scale, 0, float("inf"), (0.9, 1.1), open_low=True)
        along_x = shear if isinstance(shear, (int, float)) or len(shear) == 2 else shear[:2]
        along_y = 0.0 if isinstance(shear, (int, float)) or len(shear) == 2 else shear[2:]
        self.shear_x = _angles("RandomAffine.shear", along_x, 89)
        self.shear_y = _angles("RandomAffine.shear", along_y, 89)
        check_intensity("RandomAffine.fill", fill)
        self.interpolation = interpolation
        self.fill = fill

    def make_params(self, u: Tensor, image_size: tuple[int, int]) -> AffineParameters:
        """Angles, shifts and factors from ``(B, 6)`` uniforms, for images of ``image_size``."""
        H, W = image_size
        largest = (self.translate[0] * W, self.translate[1] * H)
        shift = [between(u[:, 1 + i], (-largest[i], largest[i])).round() for i in range(2)]
        shear = [between(u[:, 4], self.shear_x), between(u[:, 5], self.shear_y)]
        return AffineParameters(
            angle=between(u[:, 0], self.degrees),
            translate=torch.stack(shift, dim=1),
            scale=between(u[:, 3], self.scale),
            shear=torch.stack(shear, dim=1),
        )

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Transformed images ``(B, C, H, W)``, float32."""
        image = to_float(image)
        H, W = image.shape[2:]
        grid = _grid(self.make_params(u, (H, W)), H, W)
        # Outside is 0 for grid_sample: taking the fill off first and adding it again makes that the fill.
        fill = intensity("RandomAffine.fill", self.fill, image)
        moved = F.grid_sample(image - fill, grid, mode=self.interpolation, align_corners=False)
        return moved + fill

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """The labels of the nearest pixels."""
        H, W = mask.shape[1:]
        grid = _grid(self.make_params(u, (H, W)), H, W)
        above = (mask - IGNORE_LABEL).to(torch.float32)  # what lies outside is 0 for grid_sample, and to be ignored
        moved = F.grid_sample(above[:, None], grid, mode="nearest", align_corners=False)[:, 0]
        return moved.to(torch.int64) + IGNORE_LABEL


def _angles(name: str, value: float | Sequence[float], most: int) -> tuple[float, float]:
    bounds = (-value, value) if isinstance(value, (int, float)) else tuple(value)
    check_range(name, bounds, -most, most, (-10, 10))
    return bounds[0], bounds[1]


def _grid(params: AffineParameters, H: int, W: int) -> Tensor:
    """Where each pixel of the result comes from, ``(B, H, W, 2)``, x before y, in ``grid_sample``'s units.

    A pixel p goes to ``s R(a) Sy Sx p + t``, with the rotation R and the shears ``Sx = [[1, -tan sx], [0, 1]]`` and
    ``Sy = [[1, 0], [-tan sy, 1]]``; it comes from ``Sx^-1 Sy^-1 R(-a) (p - t) / s``. Written out and not as matrix
    products, which a GPU may round to 10 bits.
    """
    angle, (t_x, t_y) = params.angle.deg2rad()[:, None, None], params.translate[:, :, None, None].unbind(1)
    scale, (s_x, s_y) = params.scale[:, None, None], params.shear.deg2rad().tan()[:, :, None, None].unbind(1)
    cos, sin = angle.cos(), angle.sin()  # (B, 1, 1), as are all of the above
    x, y = (torch.arange(n, dtype=torch.float32, device=angle.device) - (n - 1) / 2 for n in (W, H))  # from the centre
    x, y = (x - t_x) / scale, (y[:, None] - t_y) / scale  # (B, 1, W), (B, H, 1)
    x, y = cos * x + sin * y, cos * y - sin * x  # (B, H, W)
    y = y + s_y * x
    x = x + s_x * y
    return torch.stack([x * (2 / W), y * (2 / H)], dim=3)
