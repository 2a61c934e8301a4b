"""Colours of classes, the same in every picture and file. Shape legend: H height, W width."""

import numpy as np


def class_colors(count: int = 256) -> np.ndarray:
    """PASCAL VOC's colours: the bits of the class number, dealt to red, green and blue from the highest bit down.

    Args:
        count: How many classes, up to 256.

    Returns:
        ``(count, 3)``, uint8; class 0 is black.

    >>> class_colors(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    number = np.arange(count)[:, None]
    color = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        color |= ((number >> (3 * bit + np.arange(3)) & 1) << (7 - bit)).astype(np.uint8)
    return color
