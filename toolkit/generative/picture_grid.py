"""Many pictures as one. Shape legend: N samples, C channels, H height, W width."""

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

SIDE = 32
"""Pixels that a side has at least, so that small pictures can be seen."""
BORDER = 4
"""White pixels around each."""


def picture_grid(image: Tensor, columns: int) -> np.ndarray:
    """Lay pictures out row by row, small ones enlarged in whole multiples.

    Args:
        image: ``(N, C, H, W)``, in ``[0, 1]``; other than three channels are shown as their mean.
        columns: Pictures in a row.

    Returns:
        ``(H', W', 3)``, uint8.

    >>> picture_grid(torch.zeros(5, 1, 28, 28), columns=3).shape
    (124, 184, 3)
    """
    if image.shape[1] != 3:
        image = image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    times = math.ceil(SIDE / max(image.shape[2:]))
    tiles = image.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    canvas: Tensor = make_grid(tiles, nrow=columns, padding=BORDER, pad_value=1.0)
    pixels: np.ndarray = canvas.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels
