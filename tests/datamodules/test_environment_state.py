import io
import random
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import (
    DelayObservation,
    FlattenObservation,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    StickyAction,
)

from datamodules.adapter import EnvironmentAdapter
from datamodules.environment_state import read_state, write_state
from tests.environments import Counting

IDS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "FrozenLake-v1",
       "Taxi-v4", "CliffWalking-v1", "Blackjack-v1 flat", "CartPole-v1 own", "CartPole-v1 stacked", "CartPole-v1 delayed",
       "CartPole-v1 normalized", "CartPole-v1 rewards", "CartPole-v1 sticky", "CartPole-v1 counted"]  # fmt: skip
WRAPPERS: dict[str, Callable[[gymnasium.Env], gymnasium.Env]] = {
    "flat": FlattenObservation,
    "stacked": lambda env: FrameStackObservation(env, 3),
    "delayed": lambda env: DelayObservation(env, 2),
    "normalized": NormalizeObservation,
    "rewards": NormalizeReward,
    "sticky": lambda env: StickyAction(env, 0.5),
    "counted": RecordEpisodeStatistics,
}


def maker(name: str) -> Callable[[], VectorEnv]:
    env_id, _, kind = name.partition(" ")
    if kind == "own":
        return lambda: gymnasium.make_vec(env_id, 3, vectorization_mode="vector_entry_point")
    single = lambda: gymnasium.make(env_id)  # noqa: E731
    if kind:
        single = lambda: WRAPPERS[kind](gymnasium.make(env_id))  # noqa: E731
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


class Drawing(gymnasium.Wrapper):
    """Has what moves in the given object."""

    def __init__(self, env: gymnasium.Env, held: object) -> None:
        super().__init__(env)
        self.held = held


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.mark.parametrize("held", [random.Random(0), iter([1]), {1: 2}, [Counting()], Knot(), object()])
def test_wrappers_that_cannot_be_read(held: object) -> None:
    """What is in them may have moved."""
    assert read_state(SyncVectorEnv([lambda: Drawing(gymnasium.make("CartPole-v1"), held)])) is None


def test_a_wrapper_s_generator_goes_on() -> None:
    made, other = (
        SyncVectorEnv([lambda kind=kind: Drawing(gymnasium.make("CartPole-v1"), np.random.Generator(kind(3)))])
        for kind in (np.random.MT19937, np.random.PCG64)
    )
    write_state(other, read_state(made) or {})
    assert made.envs[0].held.random(5).tolist() == other.envs[0].held.random(5).tolist()
