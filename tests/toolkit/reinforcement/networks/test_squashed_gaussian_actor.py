"""Actors: their distributions, and noise that is a function of the state."""

import pytest
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.soft_actor_critic import SoftActorCritic
from toolkit.reinforcement.networks.squashed_gaussian_actor import (
    IndependentNoiseActor,
    SquashedGaussianActor,
    StateDependentExploration,
    StateDependentNoiseActor,
)

NO_START = torch.zeros(4, dtype=torch.bool)


def noisy(every: int | None = None, log_std_init: float = -1.0) -> StateDependentNoiseActor:
    exploration = StateDependentExploration(every, log_std_init)
    return StateDependentNoiseActor(MLPEncoder((8, 16), "tanh"), (3,), 2, exploration)


@pytest.fixture(params=["independent", "state-dependent"])
def actor(request: pytest.FixtureRequest) -> SquashedGaussianActor:
    return noisy() if request.param == "state-dependent" else IndependentNoiseActor(MLPEncoder((16,)), (3,), 2)


def test_samples_follow_the_distribution(actor: SquashedGaussianActor) -> None:
    observation = torch.randn(1, 3)
    mean, log_std = actor.distribution(observation)
    action, log_probability = actor(observation.expand(20000, -1))
    u = action.atanh()
    torch.testing.assert_close(u.mean(dim=0), mean[0], atol=0.03, rtol=0.03)
    torch.testing.assert_close(u.std(dim=0), log_std.exp()[0], atol=0.01, rtol=0.03)
    assert log_probability.shape == (20000,)
    assert action.abs().max() <= 1


def test_greedy_is_the_mean_squeezed(actor: SquashedGaussianActor) -> None:
    observation = torch.randn(5, 3)
    expected = actor.distribution(observation)[0].tanh()
    torch.testing.assert_close(actor.greedy(observation), expected)
    net = SoftActorCritic((3,), 2)
    torch.testing.assert_close(net(observation), net.actor.greedy(observation))


def test_gradients_reach_all_parameters(actor: SquashedGaussianActor) -> None:
    action, log_probability = actor(torch.randn(6, 3))
    gradients = torch.autograd.grad(log_probability.sum() + action.sum(), list(actor.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_collected_actions_are_draws_of_the_policy(actor: SquashedGaussianActor) -> None:
    observation = torch.randn(1, 3)
    mean, log_std = actor.distribution(observation)
    actor.new_item()
    u = actor.explore(observation.expand(20000, -1), torch.zeros(20000, dtype=torch.bool)).atanh()
    torch.testing.assert_close(u.mean(dim=0), mean[0], atol=0.03, rtol=0.03)
    torch.testing.assert_close(u.std(dim=0), log_std.exp()[0], atol=0.01, rtol=0.03)


def test_variance_is_that_of_the_features_times_the_matrix() -> None:
    actor, observation = noisy(), torch.randn(4, 3)
    torch.nn.init.uniform_(actor.log_std, -2, 0)
    phi, std = actor.encoder(observation), actor.log_std.exp()
    noise = torch.einsum("bd,kda->kba", phi, std * torch.randn(20000, 16, 2))
    torch.testing.assert_close(actor.distribution(observation)[1].exp(), noise.std(dim=0), rtol=0.03, atol=0)


def acts(actor: StateDependentNoiseActor, observation: Tensor, starts: Tensor = NO_START) -> Tensor:
    with torch.no_grad():
        return actor.explore(observation, starts)


def test_noise_is_a_function_of_the_state_within_an_interval() -> None:
    actor, observation = noisy(every=3), torch.randn(4, 3)
    first, *rest = [acts(actor, observation) for _ in range(7)]
    assert [torch.equal(first, other) for other in rest] == [True, True, False, False, False, False]
    assert [torch.equal(rest[2], other) for other in rest[2:]] == [True, True, True, False]
    same = acts(noisy(), torch.randn(1, 3).expand(4, -1))
    assert len({tuple(row.tolist()) for row in same}) == 4, "each environment has its own"


def test_new_noise_at_an_episodes_start_and_in_each_item() -> None:
    actor, observation = noisy(), torch.randn(4, 3)
    first = acts(actor, observation)
    second = acts(actor, observation, torch.tensor([False, True, False, False]))
    assert (first == second).all(dim=1).tolist() == [True, False, True, True]
    assert torch.equal(acts(actor, observation), second)
    actor.new_item()
    assert not (acts(actor, observation) == second).any()


def test_noise_is_as_large_as_the_weights_are_now() -> None:
    actor, observation = noisy(), torch.randn(4, 3)
    mean = actor.distribution(observation)[0]
    before = acts(actor, observation).atanh() - mean
    with torch.no_grad():
        actor.log_std.sub_(1)
    torch.testing.assert_close((acts(actor, observation).atanh() - mean) * torch.e, before, rtol=1e-3, atol=1e-4)


def test_a_dead_layer_has_finite_gradients() -> None:
    actor = StateDependentNoiseActor(MLPEncoder((4,)), (3,), 1, StateDependentExploration())
    with torch.no_grad():
        for parameter in actor.encoder.parameters():
            parameter.fill_(-1)
    _, log_probability = actor(torch.ones(2, 3))
    gradients = torch.autograd.grad(log_probability.sum(), list(actor.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_an_interval_is_at_least_a_step() -> None:
    with pytest.raises(UserError, match="at least 1 step, got 0"):
        StateDependentExploration(every=0)
