"""Likelihoods and divergence against torch.distributions and numbers computed by hand."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from toolkit.errors import UserError
from toolkit.losses.gaussian_kl import GaussianKL, gaussian_kl
from toolkit.losses.likelihood import (
    BernoulliLikelihood,
    GaussianLikelihood,
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
)


def test_bernoulli_matches_reference() -> None:
    logits, target = torch.randn(3, 1, 2, 2), torch.randint(2, (3, 1, 2, 2)).float()
    expected = Bernoulli(logits=logits).log_prob(target).sum(dim=(1, 2, 3))
    torch.testing.assert_close(bernoulli_log_likelihood(logits, target), expected)


def test_gaussian_matches_reference() -> None:
    mean, target = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    expected = Normal(mean, 0.3).log_prob(target).sum(dim=(1, 2, 3))
    torch.testing.assert_close(gaussian_log_likelihood(mean, target, 0.3), expected)
    assert gaussian_log_likelihood(torch.zeros(1, 1), torch.zeros(1, 1), 1.0).item() == pytest.approx(
        -0.5 * math.log(2 * math.pi)
    )


def test_kl_matches_reference_and_gradient_pulls_to_the_prior() -> None:
    mean, log_variance = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
    gaussian_kl(mean, log_variance).sum().backward()
    torch.testing.assert_close(mean.grad, mean.detach())


def test_free_nats_leave_a_cheap_dimension_alone() -> None:
    mean = torch.tensor([[0.1, 2.0]], requires_grad=True)  # 0.005 and 2 nats
    loss = GaussianKL(beta=3.0, free_nats=0.5)(mean, torch.zeros(1, 2))
    assert loss.item() == pytest.approx(3 * (0.5 + 2.0))
    loss.backward()
    torch.testing.assert_close(mean.grad, torch.tensor([[0.0, 6.0]]))


def test_means_are_images() -> None:
    assert BernoulliLikelihood().mean(torch.zeros(1)).item() == 0.5
    assert GaussianLikelihood().mean(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 1.0]


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"std: need a number above 0, got 0"):
        GaussianLikelihood(std=0)
    with pytest.raises(UserError, match="need beta >= 0"):
        GaussianKL(beta=-1.0)
    with pytest.raises(UserError, match="one number a pixel"):
        bernoulli_log_likelihood(torch.zeros(1, 2), torch.zeros(1, 3))
