"""Wrappers of environments that gymnasium lacks."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from toolkit.errors import UserError


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
