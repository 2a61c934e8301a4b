"""Many pictures as one. Shape legend: N samples, C channels, H height, W width."""

import math

import numpy as np
import torch
from torch import Tensor

SIDE = 32
"""Pixels that a side has at least, so that small pictures can be seen."""


def picture_grid(image: Tensor, columns: int) -> np.ndarray:
    """Lay pictures out row by row, small ones enlarged in whole multiples.

    Args:
        image: ``(N, C, H, W)``, in ``[0, 1]``; other than three channels are shown as their mean.
        columns: Pictures in a row.

    Returns:
        ``(H', W', 3)``, uint8.

    >>> picture_grid(torch.zeros(5, 1, 28, 28), columns=3).shape
    (120, 180, 3)
    """
    if image.shape[1] != 3:
        image = image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    times = math.ceil(SIDE / max(image.shape[2:]))
    tiles = image.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    tiles = torch.nn.functional.pad(tiles, (2, 2, 2, 2), value=1.0)
    missing = -len(tiles) % columns
    tiles = torch.cat([tiles, torch.ones_like(tiles[:1]).expand(missing, -1, -1, -1)])
    _, C, H, W = tiles.shape
    canvas = tiles.view(-1, columns, C, H, W).permute(0, 3, 1, 4, 2).reshape(-1, columns * W, C)
    return canvas.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
