"""The check that every image network makes of its input, so that a wrong size is explained and not a failed matmul."""

from torch import Tensor

from toolkit.errors import UserError


def check_images(image: Tensor, in_channels: int, image_size: tuple[int, int] | None = None) -> None:
    """Refuse images that the network was not built for.

    Args:
        image: ``(B, C, H, W)``.
        in_channels: The C that the network takes.
        image_size: The ``(H, W)`` that it takes; None: any.

    Raises:
        UserError: Another number of dimensions, channels or another size.

    >>> import torch
    >>> check_images(torch.zeros(2, 1, 8, 8), in_channels=1, image_size=(8, 8))
    """
    if image.ndim != 4:
        raise UserError(
            f"images: the network takes a batch (B, {in_channels}, H, W), got shape {tuple(image.shape)}; "
            "give one image as image[None]."
        )
    channels, size = image.shape[1], tuple(image.shape[2:])
    if channels != in_channels:
        raise UserError(
            f"in_channels: the network was built for {in_channels}, got images with {channels}; "
            f"set data.init_args.in_channels to {in_channels}, or build the network with in_channels={channels}."
        )
    if image_size is not None and size != tuple(image_size):
        raise UserError(
            f"image_size: the network was built for {list(image_size)} (height, width), got images of {list(size)}; "
            f"set data.init_args.image_size to {list(image_size)}, or build the network with image_size={size}."
        )
