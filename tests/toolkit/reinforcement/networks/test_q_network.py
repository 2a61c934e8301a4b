"""Networks of action values: shapes of every variant, and what dueling and atoms mean."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.noisy_linear import NoisyLinear
from toolkit.reinforcement.networks.encoders import MLPEncoder, NatureEncoder
from toolkit.reinforcement.networks.q_network import QNetwork

VARIANTS = [
    {"dueling": dueling, "noisy": noisy, "atoms": atoms, "stream_width": width}
    for dueling, noisy, atoms, width in itertools.product((False, True), (False, True), (1, 5), (None, 6))
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_shapes_and_gradients(variant: dict[str, Any]) -> None:
    net = QNetwork((4,), 3, MLPEncoder([8]), **variant)
    net.reset_noise()
    outputs = net.outputs(torch.randn(2, 4))
    assert outputs.shape == ((2, 3) if variant["atoms"] == 1 else (2, 3, 5))
    net(torch.randn(2, 4)).pow(2).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("atoms", [1, 5])
def test_dueling_streams_are_the_value_and_advantages_of_mean_zero(atoms: int) -> None:
    net, observation = (
        QNetwork((4,), 3, MLPEncoder([8]), dueling=True, atoms=atoms).double(),
        torch.randn(2, 4).double(),
    )
    assert net.state is not None
    outputs = net.outputs(observation).reshape(2, 3, atoms)
    value = net.state(net.encoder(observation)).reshape(2, 1, atoms)
    torch.testing.assert_close(outputs.mean(dim=1, keepdim=True), value)
    torch.testing.assert_close((outputs - value).sum(dim=1), torch.zeros(2, atoms).double())
    assert isinstance(net.actions, nn.Linear)
    with torch.no_grad():
        net.actions.bias += 7.0  # the same for all actions
    torch.testing.assert_close(net.outputs(observation).reshape(2, 3, atoms), outputs)


def test_values_are_the_means_of_the_distributions() -> None:
    net = QNetwork((4,), 2, MLPEncoder([]), atoms=3, value_range=(-1, 3))
    assert net.support.tolist() == [-1, 1, 3]
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]]).log()
    torch.testing.assert_close(net.values(logits), torch.tensor([[0.5, 3.0]]))


def test_evaluation_and_a_copy_of_a_noisy_network() -> None:
    net, observation = QNetwork((4,), 2, noisy=True), torch.randn(1, 4)
    twin = copy.deepcopy(net)
    twin.reset_noise()
    assert not torch.allclose(twin(observation), net(observation)), "the copy resets its own layers"
    torch.testing.assert_close(twin.eval()(observation), net.eval()(observation))
    assert [type(layer) for layer in twin.encoder if not isinstance(layer, nn.ReLU)] == [nn.Linear, nn.Linear]
    assert isinstance(twin.actions, NoisyLinear)


def test_reads_pixels() -> None:
    net = QNetwork((4, 84, 84), 6, NatureEncoder(width=32), dueling=True, noisy=True, atoms=51)
    assert net(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape == (2, 6)
    pixels = torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    torch.testing.assert_close(net(pixels), net(pixels / 255))  # floats were scaled by someone


def test_refuses_continuous_actions_no_atoms_and_an_empty_range() -> None:
    with pytest.raises(UserError, match="values discrete actions"):
        QNetwork((4,), None)
    with pytest.raises(UserError, match=r"write atoms: 51 and value_range: \[-10, 10\]"):
        QNetwork((4,), 2, atoms=0)
    with pytest.raises(UserError, match=r"got 51 and \[1, 1\]"):
        QNetwork((4,), 2, atoms=51, value_range=(1, 1))
