"""Encoder and decoder of a variational autoencoder.

Shape legend: B batch, C channels, H height, W width, D latent dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from toolkit.nn.conv_coder import conv_decoder, conv_encoder
from toolkit.nn.image_input import check_images


class Posterior(NamedTuple):
    """A diagonal normal distribution of the latent code."""

    mean: Tensor
    """``(B, D)``."""
    log_variance: Tensor
    """``(B, D)``."""


class ConvVAE(nn.Module):
    """Strided convolutions to a dense layer and the code; the decoder is the mirror image.

    Args:
        in_channels: C.
        image_size: ``(H, W)``, divisible by 2 for each width.
        latent_dim: D.
        widths: Channels after each halving; none is a dense network.
        hidden: Units of the dense layers.

    Raises:
        UserError: An image that cannot be halved so often.

    >>> import torch
    >>> net = ConvVAE(in_channels=1, image_size=(8, 8), latent_dim=3)
    >>> net.decode(net.encode(torch.zeros(2, 1, 8, 8)).mean).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        latent_dim: int = 32,
        widths: Sequence[int] = (32, 64),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.latent_dim = in_channels, (image_size[0], image_size[1]), latent_dim
        self.encoder = conv_encoder(in_channels, self.image_size, 2 * latent_dim, widths, hidden)
        self.decoder = conv_decoder(in_channels, self.image_size, latent_dim, widths, hidden)

    def encode(self, image: Tensor) -> Posterior:
        """The posterior of images ``(B, C, H, W)`` in ``[0, 1]``."""
        check_images(image, self.in_channels, self.image_size)
        mean, log_variance = self.encoder(2 * image - 1).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-12, 12))

    def decode(self, code: Tensor) -> Tensor:
        """What the likelihood takes, ``(B, C, H, W)``, of codes ``(B, D)``."""
        output: Tensor = self.decoder(code)
        return output

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct from the mean code."""
        return self.decode(self.encode(image).mean)
