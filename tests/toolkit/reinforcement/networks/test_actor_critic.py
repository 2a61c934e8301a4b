"""Shapes, initialisation, sharing, and a memory that is the same step by step and at once."""

import math
from typing import Any

import pytest
import torch

from toolkit.errors import UserError
from toolkit.reinforcement.distributions import Categorical, DiagonalGaussian
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.networks.encoders import MLPEncoder, NatureEncoder


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("space", "kind"), [({"num_actions": 3}, Categorical), ({"action_dim": 3}, DiagonalGaussian)])
def test_shapes(space: dict[str, int], kind: type, shared: bool) -> None:
    net = ActorCritic((4,), **space, shared=shared)
    parameters, value, memory = net(torch.randn(5, 4))
    assert parameters.shape == (5, 3)
    assert value.shape == (5,)
    assert memory is None
    assert isinstance(net.policy(parameters), kind)


def test_initialisation() -> None:
    net = ActorCritic((8,), num_actions=4, encoder=MLPEncoder((8, 8), "tanh"))
    for name, gain in (
        ("encoder.0", math.sqrt(2)),
        ("critic_encoder.2", math.sqrt(2)),
        ("actor", 0.01),
        ("critic", 1.0),
    ):
        weight = net.get_submodule(name).weight
        torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(len(weight)), rtol=0, atol=1e-5)
        assert not net.get_submodule(name).bias.any()
    assert net.policy(net(torch.randn(50, 8))[0]).entropy().min() > math.log(4) - 1e-2


def test_own_encoders_are_apart_and_shared_ones_are_not() -> None:
    for shared, reached in ((False, False), (True, True)):
        net = ActorCritic((4,), num_actions=2, shared=shared)
        _, value, _ = net(torch.randn(5, 4))
        gradients = torch.autograd.grad(value.sum(), list(net.encoder.parameters()), allow_unused=True)
        assert all((gradient is not None and bool(gradient.any())) == reached for gradient in gradients)


def test_a_critic_of_another_kind() -> None:
    net = ActorCritic((4,), num_actions=2, critic_encoder=MLPEncoder((16,)), lstm=8)
    assert net.critic_encoder is not None
    assert net.critic_encoder[0].out_features == 16
    assert net.lstms[1].input_size == 16


def test_pixels() -> None:
    net = ActorCritic((4, 84, 84), action_dim=3, encoder=NatureEncoder(32), shared=True, lstm=8)
    observation = torch.randint(256, (2, 3, 4, 84, 84), dtype=torch.uint8)
    parameters, value, memory = net(observation, net.initial_memory(3), torch.zeros(2, 3, dtype=torch.bool))
    assert parameters.shape == (2, 3, 3)
    assert value.shape == (2, 3)
    assert memory.shape == (2, 3, 8)


@pytest.mark.parametrize("shared", [False, True])
def test_step_by_step_is_the_sequence(shared: bool) -> None:
    T, N = 9, 4
    net = ActorCritic((3,), num_actions=2, lstm=6, shared=shared).double()
    observation, start = torch.randn(T, N, 3, dtype=torch.float64), torch.rand(T, N) < 0.2
    start[4, 1] = True
    begin = torch.randn_like(net.initial_memory(N))
    parameters, value, behind = net(observation, begin, start)
    memory = begin
    for t in range(T):
        one, one_value, memory = net(observation[t : t + 1], memory, start[t : t + 1])
        torch.testing.assert_close(one[0], parameters[t])
        torch.testing.assert_close(one_value[0], value[t])
    torch.testing.assert_close(memory, behind)


def test_a_start_forgets_and_only_in_its_environment() -> None:
    net = ActorCritic((3,), num_actions=2, lstm=6)
    observation, start = torch.randn(5, 2, 3), torch.zeros(5, 2, dtype=torch.bool)
    start[3, 0] = True
    changed = observation.clone()
    changed[0] += 1
    zero = net.initial_memory(2)
    (_, value, _), (_, other, _) = net(observation, zero, start), net(changed, zero, start)
    assert torch.equal(value[3:, 0], other[3:, 0])
    assert not torch.equal(value[3:, 1], other[3:, 1])
    assert not torch.equal(value[:3], other[:3])


def test_all_parameters_get_a_gradient() -> None:
    for options in (
        {"num_actions": 2},
        {"action_dim": 2},
        {"action_dim": 2, "lstm": 5},
        {"num_actions": 2, "shared": True},
    ):
        net = ActorCritic((3,), **options)
        memory = net.initial_memory(2) if net.is_recurrent else None
        parameters, value, _ = net(torch.randn(4, 2, 3), memory, torch.zeros(4, 2, dtype=torch.bool))
        policy = net.policy(parameters)
        loss = policy.log_prob(policy.sample()).sum() + value.sum()
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, list(net.parameters())))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give num_actions or action_dim"),
        ({"num_actions": 2, "action_dim": 2}, "give num_actions or action_dim"),
        ({"num_actions": 2, "shared": True, "critic_encoder": MLPEncoder()}, "leave critic_encoder out"),
        ({"num_actions": 2, "observation_shape": ()}, "FlattenObservation"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ActorCritic(**{"observation_shape": (4,)} | options)
