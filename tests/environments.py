"""Environments whose every number is known, registered with gymnasium when this module is imported."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text
from gymnasium.vector import SyncVectorEnv


class Counting(gymnasium.Env):
    """The n-th step of an episode pays n; episodes end after ``ends`` steps, or are cut after ``cut`` of them."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, ends: int = 0, cut: int = 0) -> None:
        self.ends, self.cut = ends, cut
        self.episode = 0
        self.steps = 0

    def _observation(self) -> np.ndarray:
        return np.array([self.episode, self.steps], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observation(), float(self.steps), self.steps == self.ends, self.steps == self.cut, {}


class Bandit(gymnasium.Env):
    """One step an episode; the action that the observation names pays 1."""

    observation_space = Box(0, 1, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.wanted = int(self.np_random.integers(2))
        return np.eye(2, dtype=np.float32)[self.wanted], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, dtype=np.float32), float(action == self.wanted), True, False, {}


class Faulty(Counting):
    """Fails at its third step, or at its second episode's begin, in the way that it is told."""

    def __init__(self, fault: str) -> None:
        super().__init__(ends=3 if fault == "last observation" else 5)
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        if self.fault == "reset" and self.episode == 1:
            raise RuntimeError("no more levels")
        if self.fault == "options" and options is not None:
            raise RuntimeError(f"unknown options {options}")
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, *rest = super().step(action)
        if self.steps == 3:
            if self.fault == "raises":
                raise RuntimeError("the motor is hot")
            if self.fault == "raises at 0" and action == 0:
                raise RuntimeError("the motor stands still")
            if self.fault == "reward":
                reward = float("nan")
            if self.fault in ("observation", "last observation"):
                observation = np.array([1, np.inf], dtype=np.float32)
        return observation, reward, *rest


class Strict(Counting):
    """Takes no action but those of its space, whose bounds float32 rounds beyond themselves."""

    action_space = Box(-0.1, 0.1, (1,), np.float64)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return super().step(0)


class Spaces(Counting):
    """Has the spaces that it is told."""

    def __init__(self, observation: str = "box", action: str = "discrete") -> None:
        super().__init__()
        spaces = {"box": Counting.observation_space, "dict": Dict({"a": Discrete(2)}), "text": Text(3)}
        self.observation_space = spaces[observation]
        unbounded = Box(-np.inf, np.inf, (1,), np.float32)
        largest = float(np.finfo(np.float32).max)
        huge = Box(-largest, largest, (1,), np.float32)
        actions = {"huge": huge, "discrete": Discrete(2), "from one": Discrete(2, start=1), "binary": MultiBinary(2)}
        integers = Box(0, 9, (1,), np.int64)
        self.action_space = {**actions, "unbounded": unbounded, "integers": integers}[action]


for name, kind in (
    ("Counting", Counting),
    ("Bandit", Bandit),
    ("Faulty", Faulty),
    ("Spaces", Spaces),
    ("Strict", Strict),
):
    gymnasium.register(f"{name}-v0", kind, disable_env_checker=True)


def many(num_envs: int = 1) -> SyncVectorEnv:
    """A vector form that takes no limit."""
    return SyncVectorEnv([Counting] * num_envs)


gymnasium.register("Many-v0", Counting, vector_entry_point=many, disable_env_checker=True)
