"""Each game against numbers computed by hand."""

import math

import pytest
import torch

from toolkit.errors import UserError
from toolkit.losses.adversarial import AdversarialLoss
from toolkit.losses.gradient_penalty import GradientPenalty, gradient_penalty
from toolkit.losses.hinge import HingeLoss
from toolkit.losses.least_squares import LeastSquaresLoss
from toolkit.losses.non_saturating import NonSaturatingLoss
from toolkit.losses.r1 import R1
from toolkit.losses.wasserstein import WassersteinLoss

REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 3.0])


def log1p_exp(x: float) -> float:
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (
            NonSaturatingLoss(),
            (log1p_exp(-2.0) + log1p_exp(-0.5)) / 2 + (log1p_exp(-1.0) + log1p_exp(3.0)) / 2,
            (log1p_exp(1.0) + log1p_exp(-3.0)) / 2,
        ),
        (LeastSquaresLoss(), 0.5 * (1.0 + 0.25) / 2 + 0.5 * (1.0 + 9.0) / 2, 0.5 * (4.0 + 4.0) / 2),
        (HingeLoss(), (0.0 + 0.5) / 2 + (0.0 + 4.0) / 2, -1.0),
        (WassersteinLoss(), 1.0 - 1.25, -1.0),
    ],
)
def test_loss_matches_reference(loss: AdversarialLoss, discriminator: float, generator: float) -> None:
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(FAKE).item() == pytest.approx(generator, rel=1e-6)
    swapped = loss.discriminator(REAL.flip(0), FAKE.flip(0))
    torch.testing.assert_close(swapped, loss.discriminator(REAL, FAKE))


@pytest.mark.parametrize("loss", [NonSaturatingLoss(), LeastSquaresLoss(), HingeLoss(), WassersteinLoss()])
def test_players_pull_in_opposite_directions(loss: AdversarialLoss) -> None:
    fake = torch.tensor([-0.5], requires_grad=True)
    (up,) = torch.autograd.grad(loss.generator(fake), fake)
    (down,) = torch.autograd.grad(loss.discriminator(torch.tensor([0.0]), fake), fake)
    assert up < 0
    if not isinstance(loss, LeastSquaresLoss):  # whose discriminator pulls to 0, here from below
        assert down > 0


def test_gradient_penalty_of_a_linear_critic() -> None:
    """The slope of a linear critic is its weight, anywhere; so is the penalty's own gradient known."""
    weight = torch.tensor([[1.0, 2.0], [0.0, 2.0]], requires_grad=True)  # norm 3
    real, fake = torch.randn(5, 1, 2, 2), torch.randn(5, 1, 2, 2)
    penalty = GradientPenalty(weight=10.0)(lambda x: (x * weight).sum(dim=(1, 2, 3)), real, fake, torch.rand(5))
    assert penalty.item() == pytest.approx(10 * (3 - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 10 * 2 * (3 - 1) * weight.detach() / 3)


def test_gradient_penalty_looks_between_the_images() -> None:
    """Of f(x) = |x|^2 / 2 the slope is x, so the norm tells the place."""
    real, fake = torch.full((1, 1, 1, 1), 4.0), torch.full((1, 1, 1, 1), 8.0)
    penalty = gradient_penalty(lambda x: 0.5 * x.square().sum(dim=(1, 2, 3)), real, fake, torch.tensor([0.25]))
    assert penalty.item() == pytest.approx((5.0 - 1) ** 2)


def test_r1_is_the_slope_at_real_images() -> None:
    real = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    penalty = R1(gamma=4.0)(lambda x: 0.5 * x.square().sum(dim=(1, 2, 3)), real, torch.zeros(2, 1, 1, 1), torch.rand(2))
    assert penalty.item() == pytest.approx(4.0 / 2 * (1 + 4) / 2)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="gradient_penalty: real images"):
        gradient_penalty(
            lambda x: x.sum(dim=(1, 2, 3)), torch.zeros(2, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.rand(2)
        )
