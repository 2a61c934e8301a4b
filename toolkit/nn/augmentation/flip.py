"""Mirrored images. Shape legend: B batch, C channels, H height, W width."""

from torch import Tensor

from toolkit.nn.augmentation.base import Transform
from toolkit.nn.augmentation.checks import check_probability
from toolkit.nn.augmentation.choose import choose


class _RandomFlip(Transform):
    """Mirror an image with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    draws = 1
    dim: int

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        check_probability(f"{type(self).__name__}.p", p)
        self.p = p

    def make_params(self, u: Tensor) -> Tensor:
        """Whether to flip, ``(B,)``, bool."""
        return u[:, 0] < self.p

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Mirror some of the images ``(B, C, H, W)``."""
        return choose(self.make_params(u), image.flip(self.dim), image)

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """Mirror the labels of the same images."""
        return self.forward(mask[:, None], u)[:, 0]


class RandomHorizontalFlip(_RandomFlip):
    """Swap left and right with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    dim = -1


class RandomVerticalFlip(_RandomFlip):
    """Swap top and bottom with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    dim = -2
