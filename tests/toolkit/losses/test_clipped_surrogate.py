"""The losses of PPO, by hand, and where their gradients vanish."""

import pytest
import torch

from toolkit.losses.clipped_surrogate import approximate_kl, clipped_surrogate_loss, clipped_value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [(1.5, 1, -1.2, False), (1.5, -1, 1.5, True), (0.5, 1, -0.5, True), (0.5, -1, 0.8, False), (1.0, 2, -2.0, True)],
)
def test_surrogate(ratio: float, advantage: float, loss: float, moves: bool) -> None:
    log_ratio = torch.tensor([ratio]).log().requires_grad_()
    given = clipped_surrogate_loss(log_ratio, torch.tensor([float(advantage)]), 0.2)
    assert given.item() == pytest.approx(loss)
    (gradient,) = torch.autograd.grad(given, log_ratio)
    assert (gradient.item() != 0) == moves


def test_value_loss_by_hand() -> None:
    value, old = torch.tensor([3.0, 3.0, 1.25], requires_grad=True), torch.tensor([1.0, 1.0, 1.0])
    target = torch.tensor([4.0, 0.0, 2.0])
    assert clipped_value_loss(value, old, target, None).item() == pytest.approx((1 + 9 + 0.5625) / 3)
    held = clipped_value_loss(value, old, target, 0.5)
    assert held.item() == pytest.approx((2.5**2 + 9 + 0.5625) / 3)
    (gradient,) = torch.autograd.grad(held, value)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 2.0, -0.5]))


def test_kl_is_never_negative_and_right_on_average() -> None:
    old, new = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.1, 1.1)
    action = old.sample((100_000,))
    log_ratio = new.log_prob(action) - old.log_prob(action)
    assert (log_ratio.expm1() - log_ratio >= 0).all()
    expected = torch.distributions.kl_divergence(old, new).item()
    assert approximate_kl(log_ratio).item() == pytest.approx(expected, rel=0.03)
