"""Boxes drawn into pictures. Shape legend: C channels, H height, W width, M boxes."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import torch
from PIL import ImageDraw, ImageFont
from torch import Tensor

from callbacks.mask_colors import class_colors

SMALLEST = 256
"""Pictures whose longer side is less are enlarged by a whole factor, so that there is room for names."""


def drawn_boxes(image: Tensor, box: Tensor, label: Sequence[int], text: Sequence[str]) -> np.ndarray:
    """A picture with boxes in the colours of their classes, each with a text at its upper left corner.

    Args:
        image: ``(C, H, W)``, uint8; other than three channels are shown as their mean.
        box: ``(M, 4)``, (left, top, right, bottom) in pixels of the image.
        label: M class numbers.
        text: M of them; the first lies on top.

    Returns:
        ``(H', W', 3)``, uint8, a whole multiple of H and W.
    """
    if image.shape[0] != 3:
        image = image.float().mean(dim=0, keepdim=True).expand(3, -1, -1)
    factor = max(1, math.ceil(SMALLEST / max(image.shape[1:])))
    pixels = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    picture = PIL.Image.fromarray(np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1))
    pen = ImageDraw.Draw(picture)
    # Pillow's own font has little beyond Latin letters.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 11)
    colors = class_colors()
    for corners, number, words in reversed(list(zip((box * factor).tolist(), label, text, strict=True))):
        left, top, right, bottom = corners
        color = tuple(colors[number % 255 + 1].tolist())  # not black, which is the background's
        # A box that ends where it begins cannot be drawn.
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=2)
        if words:
            place = (max(left, 0), max(top - 13, 0))
            pen.rectangle(pen.textbbox(place, words, font=font), fill=color)
            pen.text(place, words, fill=_readable_on(color), font=font)
    return np.asarray(picture)


def _readable_on(color: Sequence[int]) -> tuple[int, int, int]:
    """Black or white."""
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 127
    return (0, 0, 0) if bright else (255, 255, 255)
