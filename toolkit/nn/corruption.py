"""What a denoising model is to undo. Shape legend: B batch, C channels, H height, W width."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import keyed_normal, keyed_uniform

CORRUPTION = 103
"""Stream of `toolkit.keys`."""


class Corruption(nn.Module, ABC):
    """Damage to images, each by random numbers of its own key."""

    @abstractmethod
    def forward(self, image: Tensor, key: Tensor) -> Tensor:
        """Damage a batch.

        Args:
            image: ``(B, C, H, W)``, floating in ``[0, 1]``.
            key: ``(B,)``, int64.
        """


class GaussianNoise(Corruption):
    """Adds normal noise to each pixel; the sum is not clipped.

    Vincent et al., "Stacked Denoising Autoencoders", JMLR 11, 2010, section 3.3.

    Args:
        std: Standard deviation, on the scale ``[0, 1]`` of the pixels.
    """

    def __init__(self, std: float = 0.3) -> None:
        super().__init__()
        if std <= 0:
            raise UserError(f"GaussianNoise.std: need a positive number, got {std}.")
        self.std = std

    def forward(self, image: Tensor, key: Tensor) -> Tensor:
        """Add noise."""
        noise = keyed_normal(key, CORRUPTION, image[0].numel()).view_as(image)
        return image + self.std * noise.to(image.dtype)


class MaskingNoise(Corruption):
    """Sets pixels to black.

    Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.

    Args:
        share: Of the pixels, in ``(0, 1)``; the same in all channels.
    """

    def __init__(self, share: float = 0.25) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise UserError(f"MaskingNoise.share: need 0 < share < 1, got {share}.")
        self.share = share

    def forward(self, image: Tensor, key: Tensor) -> Tensor:
        """Black out pixels."""
        B, _, H, W = image.shape
        kept = keyed_uniform(key, CORRUPTION, H * W).view(B, 1, H, W) >= self.share
        return image * kept
