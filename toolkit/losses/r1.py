"""No slope at real images. Mescheder, Geiger, Nowozin, "Which Training Methods for GANs do actually Converge?", 2018.

Shape legend: B batch, C channels, H height, W width.
"""

from torch import Tensor

from toolkit.losses.discriminator_penalty import Critic, DiscriminatorPenalty, input_gradient


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """``E |grad D(x)|^2`` at real images ``(B, C, H, W)``; eq. 9 without its ``gamma / 2``.

    >>> import torch
    >>> r1_penalty(lambda image: 1.5 * image.flatten(1).sum(dim=1), torch.zeros(2, 1, 1, 4)).item()
    9.0
    """
    return input_gradient(critic, real).square().sum(dim=1).mean()


class R1(DiscriminatorPenalty):
    """See `r1_penalty`.

    Args:
        gamma: The paper's weight; half of it multiplies the penalty.
    """

    def __init__(self, gamma: float = 10.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, critic: Critic, real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
        """Weighted, scalar."""
        return self.gamma / 2 * r1_penalty(critic, real)
