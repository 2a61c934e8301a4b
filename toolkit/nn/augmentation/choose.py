"""One of two versions of each image. Shape legend: B batch, C channels, H height, W width."""

import torch
from torch import Tensor


def choose(chosen: Tensor, changed: Tensor, image: Tensor) -> Tensor:
    """The changed version of the chosen images, the others as they are.

    Floating pixels, which must be finite, are interpolated with weights of exactly 0 and 1: that gives the same bits as
    `torch.where`, which takes five times as long on a CPU.

    Args:
        chosen: ``(B,)``, bool.
        changed: ``(B, C, H, W)``, or what broadcasts to it.
        image: ``(B, C, H, W)``, of the same dtype.

    >>> choose(torch.tensor([True, False]), torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)).flatten().tolist()
    [1.0, 0.0]
    """
    chosen = chosen[:, None, None, None]
    if image.is_floating_point():
        return torch.lerp(image, changed, chosen.to(image.dtype))
    return torch.where(chosen, changed, image)
