"""What a wrapped environment shows."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from datamodules.wrappers import LifeIsEpisode, OnePedal, SelectObservation
from toolkit.errors import UserError


def test_select_observation() -> None:
    plain = gymnasium.make("CartPole-v1")
    shown = SelectObservation(gymnasium.make("CartPole-v1"), [0, 2])
    assert shown.observation_space.shape == (2,)
    assert shown.observation_space.high.tolist() == plain.observation_space.high[[0, 2]].tolist()
    (full, _), (part, _) = plain.reset(seed=3), shown.reset(seed=3)
    assert part.tolist() == full[[0, 2]].tolist()
    assert shown.step(1)[0].tolist() == plain.step(1)[0][[0, 2]].tolist()


@pytest.mark.parametrize(("env_id", "indices"), [("CartPole-v1", [4]), ("CartPole-v1", []), ("FrozenLake-v1", [0])])
def test_mistakes(env_id: str, indices: list[int]) -> None:
    with pytest.raises(UserError, match="SelectObservation"):
        SelectObservation(gymnasium.make(env_id), indices)


class Game(gymnasium.Env):
    """Three lives, of which every second step costs one; an observation is the number of the game and of the step."""

    observation_space = gymnasium.spaces.Box(0, 99, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    games = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.games, self.steps = self.games + 1, 0
        return np.array([self.games, 0], np.float32), {"lives": 3}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        lives = 3 - self.steps // 2
        return np.array([self.games, self.steps], np.float32), 1.0, lives == 0, False, {"lives": lives}


def test_a_game_is_as_many_episodes_as_lives() -> None:
    """A reset between two lives is a step that does nothing: the fourth is the first of the third life."""
    made = LifeIsEpisode(Game())
    seen = []
    for seed in (7, None, None, None, 7):
        seen.append(made.reset(seed=seed)[0].tolist())
        over = False
        while not over:
            observation, _, over, _, _ = made.step(1)
            seen.append(observation.tolist())
    first, second, third = ([[1, 0], [1, 1], [1, 2]], [[1, 3], [1, 4]], [[1, 5], [1, 6]])
    assert seen[:7] == first + second + third
    assert seen[7:] == [[2, 0], [2, 1], [2, 2], [3, 0], [3, 1], [3, 2]]  # a seed begins a game in any case


def test_a_cut_or_lost_game_begins_anew() -> None:
    made = LifeIsEpisode(gymnasium.wrappers.TimeLimit(Game(), 3))
    made.reset(seed=0)
    made.step(1)
    assert made.step(1)[2]  # a life
    assert made.reset()[0].tolist() == [2, 0]  # the step that does nothing was cut


class Pedals(gymnasium.Env):
    """Shows what was done."""

    observation_space = action_space = Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return action, 0.0, False, False, {}


def test_one_pedal() -> None:
    environment = OnePedal(Pedals())
    assert environment.action_space == Box(-1, 1, (2,), np.float32)
    for pedal, gas, brake in ((0.75, 0.75, 0), (0, 0, 0), (-0.25, 0, 0.25)):
        done = environment.step(np.array([-0.5, pedal], np.float32))[0]
        assert (done.tolist(), done.dtype) == ([-0.5, gas, brake], np.float32)
    with pytest.raises(UserError, match=r"OnePedal: need steering, gas and brake.*Discrete\(2\)"):
        OnePedal(gymnasium.make("CartPole-v1"))
