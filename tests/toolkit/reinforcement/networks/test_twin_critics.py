"""The batched critics against two networks of their own."""

from typing import Any

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.reinforcement.networks.twin_critics import TwinCritics, TwinHead, TwinLinear


def separate(critics: TwinCritics, number: int) -> nn.Sequential:
    """One of the two as a network of torch's layers."""
    layers: list[nn.Module] = []
    for layer in critics.layers:
        if isinstance(layer, (TwinLinear, TwinHead)):
            weight = layer.weight[number].T if isinstance(layer, TwinLinear) else layer.weight[number]  # (O, I)
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = (
                weight.detach().clone(),
                layer.bias[number].flatten().detach().clone(),
            )
            layers.append(linear)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("hidden", [(), (7,), (16, 8)])
def test_twins_are_two_separate_networks(hidden: tuple[int, ...]) -> None:
    critics = TwinCritics((5,), 2, hidden, "tanh")
    observation, action = torch.randn(9, 5), torch.randn(9, 2, requires_grad=True)
    values = critics(observation, action)
    assert values.shape == (2, 9)
    (slope,) = torch.autograd.grad(values.sum(), action)
    x = torch.cat([observation, action], dim=1)
    references = torch.stack([separate(critics, number)(x)[:, 0] for number in range(2)])
    torch.testing.assert_close(values, references)
    torch.testing.assert_close(slope, torch.autograd.grad(references.sum(), action)[0])
    assert not torch.allclose(values[0], values[1])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (7,), (16, 8)])
def test_gradient_of_the_smaller_one_is_that_of_the_minimum(hidden: tuple[int, ...], activation: Any) -> None:
    critics = TwinCritics((5,), 2, hidden, activation)
    observation, action = torch.randn(40, 5), torch.randn(40, 2, requires_grad=True)
    both, smaller = critics(observation, action), critics.smaller(observation, action)
    assert len(both.argmin(dim=0).unique()) == 2, "each is the smaller one somewhere"
    torch.testing.assert_close(smaller, both.amin(dim=0))
    weights = torch.randn(40)
    slopes = [torch.autograd.grad((weights * value).sum(), action)[0] for value in (smaller, both.amin(dim=0))]
    torch.testing.assert_close(*slopes)


def test_smaller_one_is_one_critic_everywhere() -> None:
    critics = TwinCritics((5,), 2, (16,))
    head = critics.layers[-1]
    assert isinstance(head, TwinHead)
    with torch.no_grad():
        head.bias[0] += 100
    observation, action = torch.randn(9, 5), torch.randn(9, 2, requires_grad=True)
    torch.testing.assert_close(critics.smaller(observation, action), critics(observation, action)[1])
    (slope,) = torch.autograd.grad(critics.smaller(observation, action).sum(), action)
    assert slope.abs().sum(dim=1).gt(0).all()


def test_weights_are_drawn_as_torch_draws_a_linear_layers() -> None:
    first, _, second, _, head = TwinCritics((60,), 4, (256, 256)).layers
    for layer, inputs in ((first, 64), (second, 256), (head, 256)):
        bound = inputs**-0.5
        for parameter in layer.parameters():
            assert parameter.abs().max() <= bound
            assert parameter.abs().max() > 0.8 * bound or parameter.numel() == 2
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"TwinCritics read vectors, and the observations are \(3, 96, 96\)"):
        TwinCritics((3, 96, 96), 2)
    with pytest.raises(UserError, match="FlattenObservation"):
        TwinCritics((), 2)
