"""Changed colours. Shape legend: B batch, C channels, H height, W width."""

from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.nn.augmentation.base import Transform, to_float
from toolkit.nn.augmentation.checks import check_colors, check_probability, check_range
from toolkit.nn.augmentation.draws import between

Factor = float | tuple[float, float]

CONTRAST, SATURATION, HUE = 1, 2, 3  # their numbers in ``order``; brightness is 0


class JitterParameters(NamedTuple):
    """What torchvision's ``adjust_*`` functions take, for each sample."""

    factors: Tensor
    """``(B, 4)``: factors of brightness, contrast and saturation, and the turn of the hue in circles."""
    order: Tensor
    """``(B, 4)``, int64: which of the four comes first, second, third and last."""


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in an order drawn for each sample; gives float32.

    The definitions are torchvision's: the three factors mix the image with black, with its mean grey, and with its own
    grey version; the hue is turned in HSV space. Grey images have neither saturation nor hue.

    Args:
        brightness: Range of the factor; one number b means ``[max(0, 1 - b), 1 + b]``.
        contrast: Likewise.
        saturation: Likewise.
        hue: Range of the turn, in ``[-0.5, 0.5]`` circles; one number h means ``[-h, h]``.

    Raises:
        UserError: A range that makes no sense; from ``forward``, images that are neither grey nor RGB.
    """

    draws = 8

    def __init__(
        self, brightness: Factor = 0.0, contrast: Factor = 0.0, saturation: Factor = 0.0, hue: Factor = 0.0
    ) -> None:
        super().__init__()
        self.brightness = _factors("brightness", brightness)
        self.contrast = _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        bounds = (-hue, hue) if isinstance(hue, (int, float)) else hue
        check_range("ColorJitter.hue", bounds, -0.5, 0.5, (-0.1, 0.1))
        self.hue = (bounds[0], bounds[1])

    def make_params(self, u: Tensor) -> JitterParameters:
        """Factors and their order from ``(B, 8)`` uniforms."""
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        factors = [between(u[:, i], bounds) for i, bounds in enumerate(ranges)]
        return JitterParameters(torch.stack(factors, dim=1), u[:, 4:].argsort(dim=1, stable=True))

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Changed images ``(B, C, H, W)``, float32."""
        check_colors("ColorJitter", image)
        image = to_float(image)
        factors, order = self.make_params(u)
        factors = factors.gather(1, order)  # (B, 4), in the sample's own order
        if image.shape[1] == 1 or self.hue == (0.0, 0.0):
            return _blend_all(image, factors, order, order != HUE)
        # Each sample's blends before its turn of the hue, all turns, and the blends after it: every step is computed
        # for all samples, with a factor that changes nothing where it is not the sample's, because to pick the samples
        # would make the device wait for their number; the turn is as much work as all blends.
        before = (order == HUE).cumsum(dim=1) == 0  # (B, 4)
        image = _blend_all(image, factors, order, before)
        image = _turn_hue(image, factors.where(order == HUE, 0.0).sum(dim=1))
        return _blend_all(image, factors, order, ~before & (order != HUE))


class RandomGrayscale(Transform):
    """Take the colours away with probability ``p``, all channels equal to the luma; gives float32.

    Args:
        p: Probability.

    Raises:
        UserError: No probability; from ``forward``, images that are neither grey nor RGB.
    """

    draws = 1

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        check_probability("RandomGrayscale.p", p)
        self.p = p

    def make_params(self, u: Tensor) -> Tensor:
        """Whether to take the colours away, ``(B,)``, bool."""
        return u[:, 0] < self.p

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float32, some without colours."""
        check_colors("RandomGrayscale", image)
        image = to_float(image)
        return torch.where(self.make_params(u)[:, None, None, None], _luma(image), image)


def _factors(name: str, value: Factor) -> tuple[float, float]:
    bounds = (max(0.0, 1 - value), 1 + value) if isinstance(value, (int, float)) else value
    check_range(f"ColorJitter.{name}", bounds, 0, float("inf"), (0.6, 1.4))
    return bounds[0], bounds[1]


def _luma(image: Tensor) -> Tensor:
    """Grey version ``(B, 1, H, W)`` with the weights of ITU-R BT.601."""
    if image.shape[1] == 1:
        return image
    red, green, blue = (image[:, i : i + 1] for i in range(3))
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _blend_all(image: Tensor, factors: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """The chosen ``(B, 4)`` blends of each sample, in order."""
    ratio = factors.where(chosen, 1.0)
    for step in range(4):
        image = _blend(image, ratio[:, step], order[:, step])
    return image


def _blend(image: Tensor, ratio: Tensor, kind: Tensor) -> Tensor:
    """``ratio`` image and ``1 - ratio`` of what ``kind`` names: black, the mean grey, the grey version."""
    ratio, kind = ratio[:, None, None, None], kind[:, None, None, None]
    luma = _luma(image)
    reference = luma * (kind == SATURATION) + luma.mean(dim=(1, 2, 3), keepdim=True) * (kind == CONTRAST)
    return torch.lerp(reference, image, ratio).clamp_(0, 1)


def _turn_hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``turn`` ``(B,)`` circles; largest and smallest channel of each pixel stay.

    The hue is a place on a hexagon, 0..6 from red over green and blue; how far a channel is above the smallest one is
    a piecewise linear function of that place.
    """
    red, green, blue = image.transpose(0, 1).contiguous()  # each (B, H, W)
    largest = torch.maximum(torch.maximum(red, green), blue)  # aminmax takes ten times as long on a CPU
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    scale = chroma.clamp(min=torch.finfo(chroma.dtype).tiny).reciprocal_()
    blue_or_green = torch.where(largest == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    place = torch.where(largest == red, (green - blue) * scale, blue_or_green) / 6 + turn[:, None, None]
    place = (place - place.floor()).mul_(6)
    above = [(place - 3).abs_() - 1, 2 - (place - 2).abs_(), 2 - (place - 4).abs_()]
    share = torch.stack(above, dim=1).clamp_(0, 1)  # (B, 3, H, W)
    return torch.addcmul(smallest[:, None], share, chroma[:, None])
