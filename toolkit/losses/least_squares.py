"""Least squares as a game. Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, eq. 9. B: batch."""

from torch import Tensor

from toolkit.losses.adversarial import AdversarialLoss


def least_squares_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half the squared distance of real logits ``(B,)`` from 1 and of generated ones from 0.

    >>> import torch
    >>> least_squares_discriminator_loss(torch.tensor([3.0]), torch.tensor([1.0])).item()
    2.5
    """
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator_loss(fake: Tensor) -> Tensor:
    """Half the squared distance of generated logits ``(B,)`` from 1."""
    return 0.5 * (fake - 1).square().mean()


class LeastSquaresLoss(AdversarialLoss):
    """See the functions of this file."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """See `least_squares_discriminator_loss`."""
        return least_squares_discriminator_loss(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """See `least_squares_generator_loss`."""
        return least_squares_generator_loss(fake)
