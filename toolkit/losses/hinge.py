"""The hinge game. Lim and Ye, "Geometric GAN", 2017, arXiv:1705.02894; Miyato et al., ICLR 2018, eq. 16. B: batch."""

import torch.nn.functional as F
from torch import Tensor

from toolkit.losses.adversarial import AdversarialLoss


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """``max(0, 1 - D(x)) + max(0, 1 + D(G(z)))``, each a mean over logits ``(B,)``.

    >>> import torch
    >>> hinge_discriminator_loss(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])).item()
    1.5
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """``-D(G(z))``."""
    return -fake.mean()


class HingeLoss(AdversarialLoss):
    """See the functions of this file."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """See `hinge_discriminator_loss`."""
        return hinge_discriminator_loss(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """See `hinge_generator_loss`."""
        return hinge_generator_loss(fake)
