"""Encoder and decoder of an autoencoder.

Shape legend: B batch, C channels, H height, W width, D code dimensions.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.nn.conv_coder import conv_decoder, conv_encoder
from toolkit.nn.image_input import check_images


class ConvAutoencoder(nn.Module):
    """Strided convolutions to a dense layer and the code; the decoder is the mirror image.

    Args:
        in_channels: C.
        image_size: ``(H, W)``, divisible by 2 for each width.
        code_dim: D.
        widths: Channels after each halving; none is a dense network.
        hidden: Units of the dense layers.

    Raises:
        UserError: An image that cannot be halved so often.

    >>> import torch
    >>> ConvAutoencoder(in_channels=1, image_size=(8, 8), code_dim=3)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        code_dim: int = 32,
        widths: Sequence[int] = (32, 64),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.code_dim = in_channels, (image_size[0], image_size[1]), code_dim
        self.encoder = conv_encoder(in_channels, self.image_size, code_dim, widths, hidden)
        self.decoder = conv_decoder(in_channels, self.image_size, code_dim, widths, hidden)

    def encode(self, image: Tensor) -> Tensor:
        """Codes ``(B, D)`` of images ``(B, C, H, W)`` in ``[0, 1]``."""
        check_images(image, self.in_channels, self.image_size)
        code: Tensor = self.encoder(2 * image - 1)
        return code

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct images, in ``[0, 1]``."""
        output: Tensor = self.decoder(self.encode(image)).sigmoid()
        return output
