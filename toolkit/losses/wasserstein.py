"""The earth mover's distance as a game. Arjovsky, Chintala, Bottou, "Wasserstein GAN", ICML 2017. B: batch."""

from torch import Tensor

from toolkit.losses.adversarial import AdversarialLoss


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """``E D(G(z)) - E D(x)`` over the critic's values ``(B,)``, which need a Lipschitz bound from elsewhere.

    >>> import torch
    >>> wasserstein_critic_loss(torch.tensor([3.0]), torch.tensor([1.0])).item()
    -2.0
    """
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """``-E D(G(z))``."""
    return -fake.mean()


class WassersteinLoss(AdversarialLoss):
    """See the functions of this file; train it with `GradientPenalty`."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """See `wasserstein_critic_loss`."""
        return wasserstein_critic_loss(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """See `wasserstein_generator_loss`."""
        return wasserstein_generator_loss(fake)
