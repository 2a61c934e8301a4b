"""The squashed normal distribution against torch's, and far out, where torch's is infinite."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from toolkit.reinforcement.squashed_gaussian import squashed_gaussian


def test_density_is_that_of_torchs_transformed_distribution() -> None:
    mean, log_std, noise = torch.randn(3, 50, 4, dtype=torch.float64)
    action, log_probability = squashed_gaussian(mean, log_std, noise)
    reference = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), TanhTransform(cache_size=0))
    inside = action.abs().amax(dim=1) < 1 - 1e-9
    assert inside.sum() > 40
    expected: Tensor = reference.log_prob(action)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_probability[inside], expected[inside], rtol=1e-5, atol=1e-5)


def test_density_integrates_to_one() -> None:
    noise = torch.linspace(-6, 6, 20001, dtype=torch.float64).unsqueeze(1)
    action, log_probability = squashed_gaussian(torch.full_like(noise, 0.3), torch.full_like(noise, -0.2), noise)
    assert torch.trapezoid(log_probability.exp(), action[:, 0]).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("mean", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_density_and_its_gradients_are_finite_in_the_tails(mean: float) -> None:
    parameters = torch.full((1, 1), mean, requires_grad=True), torch.full((1, 1), -20.0, requires_grad=True)
    action, log_probability = squashed_gaussian(*parameters, torch.full((1, 1), 6.0))
    log_slope = 2 * math.log(2) - 2 * abs(mean)  # of tanh, where exp(-2 |u|) is nothing beside 1
    if mean:
        normal = -18 + 20 - 0.5 * math.log(2 * math.pi)
        assert log_probability.item() == pytest.approx(normal - log_slope, rel=1e-5)
    gradients = torch.autograd.grad(log_probability.sum() + action.sum(), parameters)
    assert all(gradient.isfinite().all() for gradient in gradients)
