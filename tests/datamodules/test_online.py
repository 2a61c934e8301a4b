"""Steps that are learned from one by one."""

from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from datamodules.adapter import EnvironmentAdapter
from datamodules.online import Online
from toolkit.errors import UserError
from toolkit.experience import PolicyStep


class Right:
    """Walks to the right and counts."""

    gamma, device, progress = 0.9, torch.device("cpu"), 0.0

    def __init__(self) -> None:
        self.counted = 0
        self.starts: list[Tensor] = []

    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        self.starts.append(start.clone())
        return PolicyStep(torch.full((len(observation),), 2))

    def act_randomly(self, count: int) -> Tensor:
        raise NotImplementedError

    def value(self, observation: Tensor) -> Tensor:
        raise NotImplementedError

    def environment_action(self, action: Tensor) -> Tensor:
        return action

    def count_steps(self, count: int) -> None:
        self.counted += count


def source(mode: AutoresetMode, tmp_path: Path) -> Online:
    """Two of FrozenLake without slipping and with a limit of two steps, which the right edge is beyond."""
    environments = SyncVectorEnv(
        [lambda: gymnasium.make("FrozenLake-v1", is_slippery=False, max_episode_steps=2)] * 2, autoreset_mode=mode
    )
    adapter = EnvironmentAdapter(environments, "FrozenLake-v1")
    adapter.reset(0)
    online = Online(steps=6)
    online.begin(adapter, 0.9, tmp_path)
    return online


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_the_same_steps_whatever_the_way_of_resetting(mode: AutoresetMode, tmp_path: Path) -> None:
    online, policy = source(mode, tmp_path), Right()
    taken = list(online.steps(policy))
    assert len(taken) == 6
    assert len(online) == 12
    valid = [step for step in taken if bool(step.valid.all())]
    assert [int(step.observation[0]) for step in valid][:4] == [0, 1, 0, 1]
    assert [int(step.next_observation[0]) for step in valid][:4] == [1, 2, 1, 2]
    assert [bool(step.truncated[1]) for step in valid][:4] == [False, True, False, True]
    assert not any(bool(step.terminated.any()) for step in taken)
    assert len(valid) == (4 if mode is AutoresetMode.NEXT_STEP else 6)
    assert policy.counted == 12  # steps that only reset count, so that all ranks count alike
    started = [start for start, step in zip(policy.starts, taken, strict=True) if bool(step.valid.all())]
    assert [bool(start.all()) for start in started][:4] == [True, False, True, False]
    online.adapter.environments.close()


def test_a_step_is_learned_from_before_the_next_one(tmp_path: Path) -> None:
    online, policy = source(AutoresetMode.SAME_STEP, tmp_path), Right()
    steps = online.steps(policy)
    first = next(steps)
    assert policy.counted == 2
    kept = [field.clone() for field in first]
    next(steps)
    assert all(torch.equal(field, before) for field, before in zip(first, kept, strict=True))
    online.adapter.environments.close()


def test_no_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"experience.steps: need at least 1, got 0"):
        Online(0)
