"""A slope of one. Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, eq. 3.

Shape legend: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.losses.discriminator_penalty import Critic, DiscriminatorPenalty, input_gradient


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
    """``E (|grad D(x)| - 1)^2`` at points between real and generated images.

    Args:
        critic: From images to values ``(B,)``; without normalisation over the batch.
        real: ``(B, C, H, W)``.
        fake: ``(B, C, H, W)``.
        uniform: ``(B,)``, where between them.

    >>> x = torch.zeros(2, 1, 1, 4)
    >>> gradient_penalty(lambda image: 1.5 * image.flatten(1).sum(dim=1), x, x, torch.rand(2)).item()  # (3 - 1)^2
    4.0
    """
    if real.shape != fake.shape:
        raise UserError(f"gradient_penalty: real images {tuple(real.shape)}, generated ones {tuple(fake.shape)}.")
    between = torch.lerp(real, fake, uniform.to(real.dtype)[:, None, None, None])
    norm = input_gradient(critic, between).norm(dim=1)  # (B,)
    penalty: Tensor = (norm - 1).square().mean()
    return penalty


class GradientPenalty(DiscriminatorPenalty):
    """See `gradient_penalty`.

    Args:
        weight: The paper's lambda.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, critic: Critic, real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
        """Weighted, scalar."""
        return self.weight * gradient_penalty(critic, real, fake, uniform)
