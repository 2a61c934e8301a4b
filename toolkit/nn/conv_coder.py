"""Strided convolutions from an image to a vector, and back.

Shape legend: B batch, C channels, H height, W width, D code dimensions.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from toolkit.errors import UserError


def conv_encoder(
    in_channels: int, image_size: tuple[int, int], out_features: int, widths: Sequence[int], hidden: int
) -> nn.Sequential:
    """Images ``(B, C, H, W)`` to ``(B, out_features)``: a strided convolution a width, a dense layer, a linear one.

    Args:
        in_channels: C.
        image_size: ``(H, W)``, divisible by 2 for each width.
        out_features: Of the last layer.
        widths: Channels after each halving; none is a dense network.
        hidden: Units of the dense layer.

    Raises:
        UserError: An image that cannot be halved so often.
    """
    size = _coarse(in_channels, image_size, widths)
    down: list[nn.Module] = []
    for before, after in pairwise([in_channels, *widths]):
        down += [nn.Conv2d(before, after, 4, 2, 1), nn.SiLU()]
    dense = nn.Linear(size[0] * size[1] * size[2], hidden)
    return nn.Sequential(*down, nn.Flatten(), dense, nn.SiLU(), nn.Linear(hidden, out_features))


def conv_decoder(
    in_channels: int, image_size: tuple[int, int], code_dim: int, widths: Sequence[int], hidden: int
) -> nn.Sequential:
    """Codes ``(B, D)`` to ``(B, C, H, W)``: the mirror image of `conv_encoder`, without a last nonlinearity.

    Args:
        in_channels: C.
        image_size: ``(H, W)``, divisible by 2 for each width.
        code_dim: D.
        widths: Channels of the encoder.
        hidden: Units of the dense layer.

    Raises:
        UserError: An image that cannot be halved so often.
    """
    size = _coarse(in_channels, image_size, widths)
    up: list[nn.Module] = []
    for before, after in pairwise([in_channels, *widths][::-1]):
        up += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
    dense = nn.Linear(hidden, size[0] * size[1] * size[2])
    return nn.Sequential(nn.Linear(code_dim, hidden), nn.SiLU(), dense, nn.Unflatten(1, size), *up)


def _coarse(in_channels: int, image_size: tuple[int, int], widths: Sequence[int]) -> tuple[int, int, int]:
    """``(C', H', W')`` between the convolutions and the dense layer."""
    factor = 2 ** len(widths)
    if any(side % factor for side in image_size):
        raise UserError(
            f"model.net.widths: {len(widths)} halvings need an image size divisible by {factor}, got "
            f"{list(image_size)}; give fewer widths."
        )
    return [in_channels, *widths][-1], image_size[0] // factor, image_size[1] // factor
