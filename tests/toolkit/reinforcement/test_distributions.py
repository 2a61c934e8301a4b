"""Distributions against torch's own."""

import pytest
import torch
from torch import Tensor, distributions

from toolkit.reinforcement.distributions import Categorical, DiagonalGaussian, Distribution


def pairs() -> list[tuple[Distribution, distributions.Distribution]]:
    torch.manual_seed(3)
    logit, mean = 2 * torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)
    log_std, each = torch.tensor([-1.0, 0.5], dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)
    return [
        (Categorical(logit), distributions.Categorical(logits=logit)),
        (DiagonalGaussian(mean, log_std), distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)),
        (DiagonalGaussian(mean, each), distributions.Independent(distributions.Normal(mean, each.exp()), 1)),
    ]


@pytest.mark.parametrize("which", range(3))
def test_log_prob_entropy_and_mode(which: int) -> None:
    own, reference = pairs()[which]
    action = own.sample()
    assert action.shape == reference.sample().shape
    assert action.dtype == reference.sample().dtype
    torch.testing.assert_close(own.log_prob(action), reference.log_prob(action))
    torch.testing.assert_close(own.entropy(), reference.entropy())
    torch.testing.assert_close(own.mode(), reference.mode)


def test_categorical_samples_by_probability() -> None:
    probability = torch.tensor([0.6, 0.3, 0.1, 0.0])
    drawn = Categorical(probability.log().expand(100_000, 4)).sample()
    share = drawn.bincount(minlength=4) / len(drawn)
    torch.testing.assert_close(share, probability, rtol=0, atol=0.01)
    assert share[3] == 0


def test_gaussian_samples_by_density() -> None:
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([0.0, -1.0])
    drawn = DiagonalGaussian(mean.expand(100_000, 2), log_std).sample()
    torch.testing.assert_close(drawn.mean(dim=0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.std(dim=0), log_std.exp(), rtol=0.02, atol=0)


def test_samples_follow_the_generator_and_have_no_gradient() -> None:
    for own, _ in pairs():
        torch.manual_seed(7)
        first = own.sample()
        torch.manual_seed(7)
        assert torch.equal(first, own.sample())
    logit: Tensor = torch.zeros(2, 3, requires_grad=True)
    assert not DiagonalGaussian(logit, torch.zeros(3)).sample().requires_grad


def test_gradients() -> None:
    logit, mean = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    log_std = torch.zeros(2, requires_grad=True)
    for own, parameters in ((Categorical(logit), [logit]), (DiagonalGaussian(mean, log_std), [mean, log_std])):
        for gradient in torch.autograd.grad(own.log_prob(own.sample()).sum(), parameters):
            assert gradient.abs().sum() > 0


def test_an_impossible_action_does_not_spoil_the_gradient() -> None:
    logit = torch.tensor([[0.0, 0.0, -1e9]], requires_grad=True)
    own = Categorical(logit)
    (gradient,) = torch.autograd.grad(own.log_prob(torch.tensor([0])).sum() + own.entropy().sum(), logit)
    assert gradient.isfinite().all()
    assert own.entropy().item() == pytest.approx(torch.tensor(2.0).log().item())
