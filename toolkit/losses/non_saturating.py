"""The first game. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, section 3. B: batch."""

import torch.nn.functional as F
from torch import Tensor

from toolkit.losses.adversarial import AdversarialLoss


def non_saturating_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross entropy of telling real from fake: ``-log D(x) - log(1 - D(G(z)))``, each a mean.

    Args:
        real: Logits ``(B,)`` of real images.
        fake: Logits ``(B,)`` of generated ones.

    >>> import torch
    >>> round(non_saturating_discriminator_loss(torch.zeros(2), torch.zeros(2)).item(), 4)  # 2 log 2
    1.3863
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating_generator_loss(fake: Tensor) -> Tensor:
    """``-log D(G(z))``, whose gradient does not vanish when the discriminator wins."""
    return F.softplus(-fake).mean()


class NonSaturatingLoss(AdversarialLoss):
    """See the functions of this file."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """See `non_saturating_discriminator_loss`."""
        return non_saturating_discriminator_loss(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """See `non_saturating_generator_loss`."""
        return non_saturating_generator_loss(fake)
