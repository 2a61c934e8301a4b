"""Standardised images. Shape legend: B batch, C channels, H height, W width."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.errors import UserError


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel; both are saved with the weights.

    Args:
        mean: For each channel, or one for all, on the scale ``[0, 1]``.
        std: Likewise, above 0.

    Raises:
        UserError: Not as many means as deviations, or a deviation that is not above 0; from ``forward``, images that
            are not floating or have another number of channels.

    >>> Normalize(mean=[0.5], std=[0.25])(torch.ones(1, 1, 1, 2)).tolist()
    [[[[2.0, 2.0]]]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std):
            raise UserError(
                f"Normalize: need a mean and a std for each channel, got mean={list(mean)} and std={list(std)}; "
                "write as many of one as of the other."
            )
        if min(std) <= 0:
            raise UserError(f"Normalize.std: need numbers above 0, got {list(std)}; write 1.0 for a constant channel.")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))  # (C,)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))  # (C,)

    def forward(self, image: Tensor) -> Tensor:
        """Standardised images.

        Args:
            image: ``(B, C, H, W)``, floating in ``[0, 1]``.

        Returns:
            The same shape, floating.
        """
        if not image.is_floating_point():
            raise UserError(
                f"Normalize: need floating images in [0, 1], got {image.dtype}; pass them through "
                "toolkit.nn.augmentation.to_float first."
            )
        if len(self.mean) not in (1, image.shape[1]):
            raise UserError(
                f"Normalize: has mean and std for {len(self.mean)} channels, got images with {image.shape[1]}; write "
                f"{image.shape[1]} of each, or one for all."
            )
        return (image - self.mean[:, None, None]) / self.std[:, None, None]
