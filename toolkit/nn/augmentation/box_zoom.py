"""Enlarged and reduced images and their boxes. Shape legend: B batch, C channels, H height, W width, M boxes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.nn.augmentation.base import to_float
from toolkit.nn.augmentation.boxes import BoxTransform, inside, without
from toolkit.nn.augmentation.checks import check_intensity, check_probability, check_range, intensity
from toolkit.nn.augmentation.draws import between
from toolkit.types import DetectionBatch


class ZoomParameters(NamedTuple):
    """Where a point goes: ``scale * point + shift``, in pixels."""

    scale: Tensor
    """``(B,)``."""
    shift: Tensor
    """``(B, 2)``, down and to the right."""


class RandomZoom(BoxTransform):
    """Crop out and enlarge, or reduce and surround with ``fill``, to the image's own size again; gives float32.

    The large scale jitter of Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", CVPR 2021, but with one resample, bilinear, and with the factor's logarithm uniform, so that as many
    images are enlarged as are reduced by the same factor. All places of the crop, or of the reduced image, are equally
    likely.

    Args:
        scale: Range of the factor: above 1 enlarges.
        least_visible: Boxes of which a smaller share remains in the image are dropped; those around crowds only if
            nothing remains.
        fill: What is around a reduced image, in ``[0, 1]``; one number, or one a channel.

    Raises:
        UserError: A range that makes no sense.
    """

    draws = 3

    def __init__(
        self,
        scale: tuple[float, float] = (0.5, 2.0),
        least_visible: float = 0.3,
        fill: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__()
        check_range("RandomZoom.scale", scale, 0, float("inf"), (0.5, 2.0), open_low=True)
        check_probability("RandomZoom.least_visible", least_visible)
        check_intensity("RandomZoom.fill", fill)
        self.scale = (scale[0], scale[1])
        self.least_visible = least_visible
        self.fill = fill

    def make_params(self, u: Tensor, size: Tensor) -> ZoomParameters:
        """Factors and places from ``(B, 3)`` uniforms, for images of sizes ``(B, 2)``."""
        scale = between(u[:, 0], (math.log(self.scale[0]), math.log(self.scale[1]))).exp()
        return ZoomParameters(scale, u[:, 1:] * (1 - scale[:, None]) * size)

    def forward(self, batch: DetectionBatch, u: Tensor) -> DetectionBatch:
        """Zoomed images, float32, and what is left of their boxes."""
        params = self.make_params(u, batch.size)
        scale, shift = params.scale[:, None, None], params.shift.flip(1).repeat(1, 2)[:, None]  # (B, 1, 1 or 4)
        whole = batch.box * scale + shift
        edge = batch.size.flip(1).repeat(1, 2)[:, None].to(whole.dtype)  # (B, 1, 4)
        box = torch.minimum(whole.clamp(min=0), edge)
        visible = _area(box) / _area(whole).clamp(min=torch.finfo(whole.dtype).tiny)  # (B, M)
        gone = (visible < self.least_visible) & ~batch.crowd | (_area(box) <= 0)
        area = batch.area * params.scale[:, None].square() * visible
        moved = batch._replace(image=self._zoomed(batch, params), box=box, area=area)
        return without(moved, gone)

    def _zoomed(self, batch: DetectionBatch, params: ZoomParameters) -> Tensor:
        image, within = to_float(batch.image), inside(batch)
        B, _, H, W = image.shape
        grid = torch.empty(B, H, W, 2, dtype=torch.float32, device=image.device)
        for axis, n in enumerate((H, W)):
            # The middle of each pixel of the result, in pixels of the image.
            middle = torch.arange(n, dtype=torch.float32, device=image.device) + 0.5
            source = (middle - params.shift[:, axis, None]) / params.scale[:, None]  # (B, n)
            place = source.view(B, n, 1) if axis == 0 else source.view(B, 1, n)
            grid[:, :, :, 1 - axis] = place * (2 / n) - 1  # x before y, in grid_sample's units
        # Outside is 0 for grid_sample: taking the fill off first and adding it again makes that the fill.
        fill = intensity("RandomZoom.fill", self.fill, image)
        moved = F.grid_sample((image - fill) * within, grid, mode="bilinear", align_corners=False)
        return (moved + fill).clamp_(0, 1) * within


def _area(box: Tensor) -> Tensor:
    """Of boxes ``(..., 4)``; 0 where a side is negative."""
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(dim=-1)
