import io
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv

from datamodules.adapter import EnvironmentAdapter
from datamodules.environment_state import read_state, write_state
from tests.environments import Counting

IDS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "FrozenLake-v1",
       "Taxi-v4", "CliffWalking-v1", "Blackjack-v1 flat", "CartPole-v1 own"]  # fmt: skip


def maker(name: str) -> Callable[[], VectorEnv]:
    env_id, _, kind = name.partition(" ")
    if kind == "own":
        return lambda: gymnasium.make_vec(env_id, 3, vectorization_mode="vector_entry_point")
    single = lambda: gymnasium.make(env_id)  # noqa: E731
    if kind == "flat":
        single = lambda: gymnasium.wrappers.FlattenObservation(gymnasium.make(env_id))  # noqa: E731
    return lambda: SyncVectorEnv([single] * 3, copy=False, autoreset_mode="SameStep")


@pytest.mark.parametrize("name", IDS)
def test_environments_go_on_bit_for_bit(name: str) -> None:
    """After 150 random steps the state goes through a file, into environments that were somewhere else."""
    made = EnvironmentAdapter(maker(name)(), name)
    made.reset(3)
    made.environments.action_space.seed(0)
    actions = [made.environments.action_space.sample() for _ in range(400)]
    for action in actions[:150]:
        made.step(action)
    file = io.BytesIO()
    torch.save({"environments": read_state(made.environments), "adapter": made.state_dict()}, file)
    expected = [made.step(action) for action in actions[150:]]
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = EnvironmentAdapter(maker(name)(), name)
    other.reset(77)
    write_state(other.environments, state["environments"])
    other.load_state_dict(state["adapter"])
    for action, step in zip(actions[150:], expected, strict=True):
        for one, two in zip(step, other.step(action), strict=True):
            np.testing.assert_array_equal(one, two)


def test_others_cannot_be_read() -> None:
    assert read_state(SyncVectorEnv([Counting])) is None
