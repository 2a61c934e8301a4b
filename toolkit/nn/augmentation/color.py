"""Changed colours. Shape legend: B batch, C channels, H height, W width."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.nn.augmentation.base import PixelTransform, to_float
from toolkit.nn.augmentation.checks import check_colors, check_probability, check_range
from toolkit.nn.augmentation.choose import choose
from toolkit.nn.augmentation.draws import between

Factor = float | tuple[float, float]

CONTRAST, SATURATION, HUE = 1, 2, 3  # their numbers in ``order``; brightness is 0


class JitterParameters(NamedTuple):
    """What torchvision's ``adjust_*`` functions take, for each sample."""

    factors: Tensor
    """``(B, 4)``: factors of brightness, contrast and saturation, and the turn of the hue in circles."""
    order: Tensor
    """``(B, 4)``, int64: which of the four comes first, second, third and last."""


class ColorJitter(PixelTransform):
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
            ratio = factors.where(order != HUE, 1.0)
            return _blend_(image.clone(), ratio, order, [0, 0, 0, 0])
        return _turn_between_blends(image, factors, order)


def _turn_between_blends(image: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Each sample's blends before its turn of the hue, all turns, and the blends after it.

    A step is computed with a factor of 1 for samples whose step it is not: to pick them would make a device wait for
    their number. A CPU waits for nothing, so there samples are sorted by what comes first, and each step takes theirs.
    """
    blends_before = (order == HUE).int().argmax(dim=1)  # (B,)
    step = torch.arange(4, device=order.device)
    before = factors.where(step < blends_before[:, None], 1.0)[:, :3]
    after = factors.where(step > blends_before[:, None], 1.0)[:, 1:]
    turn = factors.where(order == HUE, 0.0).sum(dim=1)
    if image.device.type != "cpu":
        image = _blend_(image.clone(), before, order[:, :3], [0, 0, 0])
        return _blend_(_turn_hue(image, turn), after, order[:, 1:], [0, 0, 0])
    most = blends_before.argsort(descending=True, stable=True)  # of `before` first, of `after` last
    counts = [int((blends_before > i).sum()) for i in range(3)]
    image = _blend_(image[most], before[most], order[most, :3], counts, first=True)
    image = _blend_(_turn_hue(image, turn[most]), after[most], order[most, 1:], counts)
    return image[most.argsort()]


class RandomGrayscale(PixelTransform):
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
        return choose(self.make_params(u), _luma(image), image)


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


def _blend_(image: Tensor, ratio: Tensor, kind: Tensor, bounds: Sequence[int], first: bool = False) -> Tensor:
    """Mix images with what ``kind`` names, in steps and in place: black, the mean grey, the grey version.

    Args:
        image: ``(B, C, H, W)``, float32.
        ratio: ``(B, steps)``, the image's share.
        kind: ``(B, steps)``, int64.
        bounds: For each step, the sample that it begins with.
        first: Whether it ends there instead.
    """
    for step, bound in enumerate(bounds):
        some = slice(bound) if first else slice(bound, None)
        share, what = ratio[some, step, None, None, None], kind[some, step, None, None, None]
        part = image[some]
        luma = _luma(part)
        grey = luma.mean(dim=(2, 3), keepdim=True) * (what == CONTRAST)
        reference = (luma * (what == SATURATION)).add_(grey)
        part.lerp_(reference.expand_as(part), 1 - share).clamp_(0, 1)
    return image


def _turn_hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``turn`` ``(B,)`` circles; largest and smallest channel of each pixel stay.

    The hue is a place on a hexagon, 0..6 from red over green and blue. With channels scaled so that the smallest is 0
    and the largest 1, the place is ``1 - red + green + blue`` where green is above blue, and the negative of it
    elsewhere; how far a channel is above the smallest one is a piecewise linear function of the place. Neither takes a
    comparison of pixels, which costs a CPU as much as ten sums.
    """
    red, green, blue = image.transpose(0, 1).contiguous()  # each (B, H, W)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(smallest)
    scale = chroma.clamp(min=torch.finfo(chroma.dtype).tiny).reciprocal_()
    sum_of_scaled = (green + blue).sub_(red).sub_(smallest).mul_(scale)
    place = sum_of_scaled.add_(1).copysign_(green - blue).div_(6).add_(turn[:, None, None])
    place = place.sub_(place.floor()).mul_(6)
    above = [(place - 3).abs_().sub_(1), (place - 2).abs_().neg_().add_(2), place.sub_(4).abs_().neg_().add_(2)]
    share = torch.stack(above, dim=1).clamp_(0, 1)  # (B, 3, H, W)
    return share.mul_(chroma[:, None]).add_(smallest[:, None])
