"""Uniform numbers turned into other random quantities: without rejection, a fixed number of draws a sample.

Shape legend: B batch, H height, W width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TRIES = 10
"""Rectangles proposed for a sample, of which the first that fits is taken, as in torchvision."""

RECTANGLE_DRAWS = 2 * TRIES + 2


class Rectangles(NamedTuple):
    """One rectangle a sample, in pixels."""

    top: Tensor
    """``(B,)``, int64, first row."""
    left: Tensor
    """``(B,)``, int64, first column."""
    height: Tensor
    """``(B,)``, int64."""
    width: Tensor
    """``(B,)``, int64."""

    def contains(self, H: int, W: int) -> Tensor:
        """Which pixels lie inside: ``(B, 1, H, W)``, bool."""
        row, column = (torch.arange(n, device=self.top.device) for n in (H, W))
        top, left = self.top[:, None], self.left[:, None]
        rows = (row >= top) & (row < top + self.height[:, None])  # (B, H)
        columns = (column >= left) & (column < left + self.width[:, None])  # (B, W)
        return (rows[:, :, None] & columns[:, None, :])[:, None]


def between(u: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Uniform numbers in the range ``bounds``."""
    low, high = bounds
    return low + u * (high - low)


def below(u: Tensor, n: Tensor | int) -> Tensor:
    """Whole numbers in 0..n-1, all equally likely; n up to 2**24.

    No product is rounded up to n, because u is at most ``1 - 2**-24``, half a unit in the last place of float32.

    >>> below(torch.tensor([0.0, 0.5, 1 - 2**-24]), 9).tolist()
    [0, 4, 8]
    """
    return (u * n).to(torch.int64)


def symmetric_beta(u: Tensor, alpha: float) -> Tensor:
    """Numbers of the distribution Beta(alpha, alpha), exact for any alpha > 0.

    Devroye, "Random variate generation in one line of code", WSC 1996: Bailey's polar method (Math. Comp. 62, 1994)
    makes a Student t variate T with ``2 alpha`` degrees of freedom, and ``1/2 + T / (2 sqrt(2 alpha + T**2))`` is
    Beta(alpha, alpha). Written with ``w = u**(1/alpha)``, so that a small alpha does not overflow.

    Args:
        u: ``(B, 2)``, uniform in ``[0, 1)``.
        alpha: Both shape parameters.

    Returns:
        ``(B,)``, float32 in ``[0, 1]``.
    """
    log_w = u[:, 0].log() / alpha
    c = torch.cos(2 * math.pi * u[:, 1])
    tail = -torch.expm1(log_w) * c.square()  # (1 - w) c^2
    distance = (tail / (log_w.exp() + tail)).sqrt()  # |T| / sqrt(2 alpha + T^2)
    return 0.5 + 0.5 * distance * c.sign()


def rectangles(
    u: Tensor,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    largest: tuple[int, int],
) -> tuple[Rectangles, Tensor]:
    """Rectangles of random area and shape, anywhere in the image.

    Args:
        u: ``(B, RECTANGLE_DRAWS)``, uniform in ``[0, 1)``.
        image_size: ``(H, W)``.
        scale: Range of the area, as share of the image's; uniform.
        ratio: Range of width / height; log-uniform.
        largest: Height and width that a rectangle may have; at least 1 pixel either way.

    Returns:
        (the rectangles, whether one of the tries fitted ``(B,)``); where none did, the rectangle means nothing.
    """
    H, W = image_size
    area = between(u[:, :TRIES], scale) * (H * W)  # (B, TRIES)
    shape = between(u[:, TRIES : 2 * TRIES], (math.log(ratio[0]), math.log(ratio[1]))).exp()
    width, height = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (width >= 1) & (width <= largest[1]) & (height >= 1) & (height <= largest[0])
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)  # (B, 1), the first of equal maxima
    height, width = (side.gather(1, first)[:, 0].to(torch.int64) for side in (height, width))
    found = fits.any(dim=1)
    top = below(u[:, -2], (H - height + 1).clamp(min=1))
    left = below(u[:, -1], (W - width + 1).clamp(min=1))
    return Rectangles(top, left, height, width), found
