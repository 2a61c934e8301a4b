"""What the two players of a generative adversarial network minimise; each game is a file of its own.

Shape legend: B batch.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class AdversarialLoss(nn.Module, ABC):
    """The losses of both players, from the discriminator's logits ``(B,)``."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar; small when real images have high logits and generated ones low."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """Scalar; small when generated images have high logits."""
