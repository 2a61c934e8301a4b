"""The checks that the transforms make of their arguments, each with what to write instead."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.errors import UserError


def check_probability(name: str, p: float) -> None:
    """Refuse what is no probability.

    >>> check_probability("RandomErasing.p", 0.5)
    """
    if not 0 <= p <= 1:
        raise UserError(f"{name}: need a probability in [0, 1], got {p}; such as 0.5.")


def check_positive(name: str, value: float, example: float) -> None:
    """Refuse zero and less."""
    if value <= 0:
        raise UserError(f"{name}: need a number above 0, got {value}; such as {example}.")


def check_range(
    name: str, bounds: Sequence[float], low: float, high: float, example: Sequence[float], open_low: bool = False
) -> None:
    """Refuse a range that is not ascending or leaves ``[low, high]``; ``open_low`` refuses ``low`` itself too."""
    ascending = len(bounds) == 2 and low <= bounds[0] <= bounds[1] <= high
    if not ascending or (open_low and bounds[0] == low):
        inside = f"inside {'(' if open_low else '['}{low}, {high}]"
        raise UserError(f"{name}: need [smallest, largest] {inside}, got {list(bounds)}; such as {list(example)}.")


def check_colors(name: str, image: Tensor) -> None:
    """Refuse images that are neither grey nor RGB."""
    if image.shape[1] not in (1, 3):
        raise UserError(
            f"{name}: knows the colours of grey (1 channel) and RGB (3 channels) images only, got {image.shape[1]} "
            "channels; take it out of the augmentation."
        )


def pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """``(height, width)`` from one side or two, each at least 1."""
    height, width = (value, value) if isinstance(value, int) else value
    if min(height, width) < 1:
        raise UserError(f"{name}: need at least 1 pixel, got {value}; such as 32, or [height, width].")
    return height, width


def intensity(name: str, value: float | Sequence[float], image: Tensor) -> Tensor:
    """An argument on the scale ``[0, 1]``, one for all or one for each channel, in the images' own dtype and scale.

    Returns:
        ``(1 or C, 1, 1)``.
    """
    values = [value] if isinstance(value, (int, float)) else list(value)
    if len(values) not in (1, image.shape[1]):
        raise UserError(
            f"{name}: need one number, or one for each of the {image.shape[1]} channels, got {len(values)}: {values}."
        )
    color = torch.tensor(values, dtype=torch.float32, device=image.device)
    if not image.is_floating_point():
        color = color.mul(255).round()
    return color.to(image.dtype)[:, None, None]


def check_intensity(name: str, value: float | Sequence[float]) -> None:
    """Refuse what is not on the scale ``[0, 1]``."""
    values = [value] if isinstance(value, (int, float)) else list(value)
    if not values or min(values) < 0 or max(values) > 1:
        raise UserError(f"{name}: need numbers in [0, 1], whatever the images' dtype, got {value}; such as 0.5.")
