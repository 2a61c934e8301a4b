from pathlib import Path

import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from datamodules.adapter import EnvironmentAdapter
from datamodules.experience import Experience, Replay, Rollouts
from tests.environments import Counting
from toolkit.errors import UserError
from toolkit.experience import PolicyStep


class Numbered:
    """Its n-th action is n; values an observation at ten times the step it is of."""

    gamma = 0.5
    device = torch.device("cpu")
    progress = 0.0

    def __init__(self) -> None:
        self.acted = self.random = self.steps = 0

    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        self.acted += 1
        number = torch.full((len(observation),), self.acted)
        return PolicyStep(number, -number.float(), 10 * observation[:, 1])

    def act_randomly(self, count: int) -> Tensor:
        self.random += 1
        return torch.zeros(count, dtype=torch.int64)

    def value(self, observation: Tensor) -> Tensor:
        return 10 * observation[:, 1]

    def environment_action(self, action: Tensor) -> Tensor:
        return action % 2

    def count_steps(self, count: int) -> None:
        self.steps += count


def begun(experience: Experience, folder: Path, *arguments: dict[str, int], mode: str = "SameStep") -> Experience:
    makers = [lambda given=given: Counting(**given) for given in arguments]
    adapter = EnvironmentAdapter(SyncVectorEnv(makers, copy=False, autoreset_mode=mode), "Counting")
    adapter.reset(0)
    experience.begin(adapter, gamma=0.5, folder=folder)
    return experience


def test_a_rollout_by_hand(tmp_path: Path) -> None:
    """One environment that ends after two steps, one that is cut after three; five steps."""
    source, policy = begun(Rollouts(5), tmp_path, {"ends": 2}, {"cut": 3}), Numbered()
    rollout = source.collect(policy)
    assert policy.steps == len(source) == 10
    assert rollout.observation[:, 0].tolist() == [[1, 0], [1, 1], [2, 0], [2, 1], [3, 0]]
    assert rollout.observation[:, 1, 1].tolist() == [0, 1, 2, 0, 1]
    assert rollout.action[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert rollout.log_probability[:, 1].tolist() == [-1, -2, -3, -4, -5]
    assert rollout.value[:, 1].tolist() == [0, 10, 20, 0, 10]
    assert rollout.next_value[:, 1].tolist() == [10, 20, 30, 10, 20]  # 30: of the observation that the cut hid
    assert rollout.next_value[[0, 2, 4], 0].tolist() == [10, 10, 10]  # after an end nobody asks
    assert rollout.reward[:, 1].tolist() == [1, 2, 3, 1, 2]
    assert rollout.discounted_return[:, 1].tolist() == [1, 2.5, 4.25, 1, 2.5]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, True, False]
    assert rollout.truncated[:, 1].tolist() == [False, False, True, False, False]
    assert rollout.start[:, 1].tolist() == [True, False, False, True, False]
    assert bool(rollout.valid.all())
    following = source.collect(policy)
    assert following.observation[0].tolist() == [[3, 1], [2, 2]]
    assert following.discounted_return[0].tolist() == [2.5, 4.25]


def test_a_step_that_only_resets_is_marked(tmp_path: Path) -> None:
    source = begun(Rollouts(6), tmp_path, {"ends": 2}, mode="NextStep")
    rollout = source.collect(Numbered())
    assert rollout.valid[:, 0].tolist() == [True, True, False, True, True, False]
    assert rollout.start[:, 0].tolist() == [True, False, False, True, False, False]


def test_replay_steps_and_draws_by_turns(tmp_path: Path) -> None:
    """Two environments: 12 steps are 24 of an environment, the first 6 of which are at random."""
    replay = Replay(capacity=100, batch_size=5, train_every=3, updates=2, steps_per_item=12, warmup_steps=6)
    source, policy = begun(replay, tmp_path, {"ends": 2}, {"cut": 3}), Numbered()
    at = []
    for transitions in source.minibatches(policy):
        at.append(policy.steps)
        assert transitions.observation.shape == (5, 2)
        # the reward is the step's number: what follows is one step on
        assert torch.equal(transitions.reward, transitions.observation[:, 1] + 1)
        assert torch.equal(transitions.next_observation[:, 1], transitions.reward)
        ends = (transitions.reward == 2) & (transitions.discount == 0)
        assert torch.equal(transitions.discount, torch.where(ends, 0.0, 0.5))
    assert at == [12, 12, 18, 18, 24, 24]
    assert (policy.random, policy.acted) == (3, 9)


def test_replay_stores_actions_in_the_policy_s_units(tmp_path: Path) -> None:
    replay = Replay(capacity=100, batch_size=50, train_every=10, updates=1, steps_per_item=10, warmup_steps=0)
    source = begun(replay, tmp_path, {})
    (transitions,) = source.minibatches(Numbered())
    assert set(transitions.action.tolist()) <= set(range(1, 11))
    assert int(transitions.action.max()) > 1


@pytest.mark.parametrize("experience", [Rollouts(3), Replay(capacity=50, steps_per_item=8, train_every=4)])
def test_state_goes_through_a_file(experience: Experience, tmp_path: Path) -> None:
    source = begun(experience, tmp_path, {"ends": 2})
    assert isinstance(source, (Rollouts, Replay))
    source.collect(Numbered()) if isinstance(source, Rollouts) else list(source.minibatches(Numbered()))
    torch.save(source.state_dict(), tmp_path / "state.pt")
    source.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))


def test_wrong_numbers() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        Rollouts(0)
    with pytest.raises(UserError, match="multiple of train_every"):
        Replay(steps_per_item=10, train_every=4)
    with pytest.raises(UserError, match="batch_size"):
        Replay(batch_size=0)
