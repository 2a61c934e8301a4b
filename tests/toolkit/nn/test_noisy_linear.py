"""The noise of a noisy layer: its size, when it changes and when there is none."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from toolkit.errors import UserError
from toolkit.nn.noisy_linear import NoisyLinear


def test_output_has_the_papers_mean_and_spread() -> None:
    """E|x| of a normal number is sqrt(2 / pi), and so the variance of f(x): no factor of 1."""
    layer = NoisyLinear(16, 8).double()
    x = torch.linspace(-1, 1, 16, dtype=torch.float64)[None]
    with torch.no_grad():
        draws = []
        for _ in range(20_000):
            layer.reset_noise()
            draws.append(layer(x))
        drawn = torch.cat(draws)  # (20000, 8)
        mean = F.linear(x, layer.weight, layer.bias)[0]
    sigma, second = 0.5 / math.sqrt(16), math.sqrt(2 / math.pi)
    variance = sigma**2 * (float((x**2).sum()) * second**2 + second)
    torch.testing.assert_close(drawn.mean(dim=0), mean, rtol=0, atol=5 * math.sqrt(variance / 20_000))
    torch.testing.assert_close(drawn.var(dim=0), torch.full((8,), variance).double(), rtol=0.1, atol=0)


def test_noise_stays_until_it_is_reset_and_evaluation_has_none() -> None:
    layer, x = NoisyLinear(4, 3), torch.randn(2, 4)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))  # before the first draw
    layer.reset_noise()
    first = layer(x)
    torch.testing.assert_close(layer(x), first, rtol=0, atol=0)
    layer.reset_noise()
    assert not torch.allclose(layer(x), first)
    layer.eval()
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_noise_is_factorised_and_learned() -> None:
    layer, x = NoisyLinear(4, 3).double(), torch.randn(2, 4, dtype=torch.float64)
    layer.reset_noise()
    noise = layer.noise_out[:, None] * layer.noise_in
    weight = layer.weight + layer.weight_sigma * noise
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias + layer.bias_sigma * layer.noise_out)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight_sigma.grad, x.sum(dim=0).expand(3, 4) * noise)
    torch.testing.assert_close(layer.bias_sigma.grad, 2 * layer.noise_out)


def test_noise_is_no_part_of_a_checkpoint_and_a_copy_has_its_own() -> None:
    layer = NoisyLinear(4, 3)
    assert list(layer.state_dict()) == ["weight", "weight_sigma", "bias", "bias_sigma"]
    twin = copy.deepcopy(layer)
    layer.reset_noise()
    assert not twin.noise_in.any()


def test_refuses_a_negative_spread() -> None:
    with pytest.raises(UserError, match=r"at least 0, such as 0\.5, got -1"):
        NoisyLinear(4, 3, sigma=-1)
