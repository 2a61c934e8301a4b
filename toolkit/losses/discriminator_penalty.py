"""What a discriminator pays for the slope of its logits; each penalty is a file of its own.

Shape legend: B batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

Critic = Callable[[Tensor], Tensor]
"""From images ``(B, C, H, W)`` to logits ``(B,)``."""


class DiscriminatorPenalty(nn.Module, ABC):
    """A term that is added to the discriminator's loss."""

    @abstractmethod
    def forward(self, critic: Critic, real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
        """Scalar, weighted.

        Args:
            critic: The discriminator, its classes given.
            real: ``(B, C, H, W)``.
            fake: ``(B, C, H, W)``.
            uniform: ``(B,)``, a number in ``[0, 1)`` for each pair.
        """


def input_gradient(critic: Critic, image: Tensor) -> Tensor:
    """Slope of the logit of each image, ``(B, C * H * W)``, in float32 or more and differentiable itself."""
    image = image.detach().to(torch.promote_types(image.dtype, torch.float32)).requires_grad_()
    # A sum: each logit must depend on its own image only, so a critic must not normalise over the batch.
    (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    return gradient.flatten(1)
