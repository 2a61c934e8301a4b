"""Wrappers of environments that gymnasium lacks."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from toolkit.errors import UserError


class PlainReset(gymnasium.Wrapper):
    """Resets with None for options that are empty, as gymnasium's vector environments pass them on."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment that is wrapped."""
        return self.env.reset(seed=seed, options=options or None)


class SelectObservation(gymnasium.ObservationWrapper):
    """Shows some of an observation's numbers only; without velocities, a policy needs a memory.

    Args:
        env: Its observations are vectors.
        indices: Of the numbers that are shown, such as ``[0, 2]``: CartPole's position and angle.

    Raises:
        UserError: The observations are no vectors, or are shorter.
    """

    def __init__(self, env: gymnasium.Env, indices: Sequence[int]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise UserError(f"SelectObservation: need vectors as observations, got {space}.")
        size = space.shape[0]
        if not indices or not all(0 <= index < size for index in indices):
            raise UserError(f"SelectObservation: indices: need some of 0 to {size - 1}, got {list(indices)}.")
        self.indices = list(indices)
        self.observation_space = Box(space.low[self.indices], space.high[self.indices], dtype=space.dtype)

    def observation(self, observation: Any) -> np.ndarray:
        """``(S,)`` to the numbers that are shown."""
        shown: np.ndarray = observation[self.indices]
        return shown


class LifeIsEpisode(gymnasium.Wrapper):
    """Ends an episode with each life; the next one goes on with the lives that are left, from where the game stands.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature, 2015, Methods. The lives are
    ``info["lives"]``, as Atari's games say them. A reset with a seed, and one after the last life or a cut, begins the
    game anew; any other does nothing for one step.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.lives = 0
        self.is_over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Go on with the next life, or begin anew."""
        if not self.is_over and seed is None:
            observation, _, terminated, truncated, info = self.env.step(0)
            self.is_over = terminated or truncated
        if self.is_over or seed is not None:
            observation, info = self.env.reset(seed=seed, options=options)
            self.is_over = False
        self.lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One of the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.is_over = terminated or truncated
        is_lost = info["lives"] < self.lives
        self.lives = info["lives"]
        return observation, reward, terminated or is_lost, truncated, info


class OnePedal(gymnasium.ActionWrapper):
    """CarRacing's gas and brake as one number: above 0 it is gas, below it brake, and 0 lets the car roll.

    A policy that knows nothing acts around 0; with pedals of their own that is half of each, and the brake wins.

    Args:
        env: Its actions are steering in [-1, 1], gas in [0, 1] and brake in [0, 1].

    Raises:
        UserError: Its actions are others.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, Box) or space.low.tolist() != [-1, 0, 0] or space.high.tolist() != [1, 1, 1]:
            raise UserError(f"OnePedal: need steering, gas and brake, Box([-1, 0, 0], [1, 1, 1]), got {space}.")
        self.action_space = Box(-1, 1, (2,), np.float32)

    def action(self, action: Any) -> np.ndarray:
        """``(2,)``, steering and pedal, to ``(3,)``."""
        steering, pedal = action
        return np.array([steering, max(pedal, 0), max(-pedal, 0)], np.float32)
