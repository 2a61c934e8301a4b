"""The one place that knows how vector environments begin a new episode.

gymnasium's three modes differ in what a step returns when an episode has ended. ``SAME_STEP``: the first observation of
the next one, and the last of this one beside it. ``NEXT_STEP``: the last of this one; the step after ignores its action
and only resets. ``DISABLED``: the last of this one, and whoever steps has to reset. Behind `EnvironmentAdapter` all are
alike.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from toolkit.errors import UserError, short_message
from toolkit.experience import Episodes, within


class Step(NamedTuple):
    """What one step of N environments gave. Arrays are the adapter's own until the next step: copy what is kept."""

    observation: np.ndarray
    """``(N, *S)``, before the step."""
    reward: np.ndarray
    """``(N,)``, float64."""
    next_observation: np.ndarray
    """``(N, *S)``, after the step; where the episode ended, its last one."""
    terminated: np.ndarray
    """``(N,)``, bool."""
    truncated: np.ndarray
    """``(N,)``, bool."""
    valid: np.ndarray
    """``(N,)``, bool; false where the environment was only reset."""


class EnvironmentAdapter:
    """Steps a vector environment, whatever its way of resetting; counts episodes, and looks at what comes.

    Args:
        environments: Of N environments.
        name: Of the environment, for messages.
        next_seed: The seed that an environment, by its number, begins its next episode with; of ``DISABLED``.

    Raises:
        UserError: The environments raise an error, or return something that is not a finite number.
    """

    def __init__(
        self, environments: gymnasium.vector.VectorEnv, name: str, next_seed: Callable[[int], int] | None = None
    ) -> None:
        self.environments, self.name, self.next_seed = environments, name, next_seed
        self.num_envs = environments.num_envs
        mode = environments.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UserError(
                f"data.init_args.env_id: {name!r} does not say how it resets (metadata['autoreset_mode'] is {mode!r}); "
                "it must be one of gymnasium.vector.AutoresetMode."
            )
        self.mode = mode
        self.is_float = np.issubdtype(environments.single_observation_space.dtype, np.floating)
        action_space = environments.single_action_space
        self.bounds = (action_space.low, action_space.high) if isinstance(action_space, Box) else None
        """Least and largest action, ``(A,)``, of continuous ones."""
        self.all = np.ones(self.num_envs, dtype=bool)
        self.only_reset = np.zeros(self.num_envs, dtype=bool)
        """Where the next step ignores its action; of ``NEXT_STEP``."""
        self.start = self.all
        """Where the current observation is the first of its episode."""
        self.returns = np.zeros(self.num_envs)
        """Of the running episodes so far."""
        self.lengths = np.zeros(self.num_envs, dtype=np.int64)
        self.observation: np.ndarray = np.zeros(0)
        self._ended: list[tuple[float, int]] = []

    def reset(self, seed: int | list[int] | None) -> np.ndarray:
        """Begin new episodes everywhere.

        Args:
            seed: Of the first environment, where the others get the numbers behind it; or of each. None: the generators
                go on.
        """
        given: Any = seed  # gymnasium's own are typed for one number, and take as many as there are environments
        self.observation = self._begun(seed=given)
        self.start, self.only_reset = self.all, np.zeros(self.num_envs, dtype=bool)
        self.returns[:], self.lengths[:] = 0, 0
        return self.observation

    def step(self, action: np.ndarray) -> Step:
        """Step all environments.

        Args:
            action: ``(N,)`` or ``(N, A)``, in the environment's units.
        """
        before = self.observation
        if self.bounds is not None:
            action = within(action, *self.bounds)
        try:
            raw, reward, terminated, truncated, info = self.environments.step(action)
        except Exception as error:
            _check_action(action)
            raise UserError(
                f"environment {self.name}: step({action.tolist()}) raised {short_message(error)}."
            ) from error
        after = self._checked(raw, action)
        if not all(map(math.isfinite, reward.tolist())):  # a few numbers are read faster than reduced
            _check_action(action)
            raise UserError(
                f"environment {self.name}: it returned the reward {reward.tolist()} for the action {action.tolist()}; "
                "a reward must be a finite number."
            )
        valid = self.all
        if self.mode is AutoresetMode.NEXT_STEP:
            valid = ~self.only_reset
        self.lengths += valid
        self.returns += reward
        done = terminated | truncated
        following = after
        if True in done.tolist():
            self._note(done)
            following, after = self._reset(done, after, info)
            done = done.copy()
        self.observation = following
        if self.mode is AutoresetMode.NEXT_STEP:
            self.start, self.only_reset = ~valid, done  # an episode's first observation came with the reset
        else:
            self.start = done
        return Step(before, reward, after, terminated, truncated, valid)

    def _reset(self, done: np.ndarray, after: np.ndarray, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """(the observations to act on, the last ones of the step)."""
        if self.mode is AutoresetMode.SAME_STEP:
            last = after.copy()
            for number in np.flatnonzero(done):
                last[number] = info["final_obs"][number]
            self._check_finite(last)
            return after, last
        if self.mode is AutoresetMode.DISABLED:
            last = after  # the environments' own array is written into
            seeds: Any = [self.next_seed(i) if self.next_seed and done[i] else None for i in range(self.num_envs)]
            return self._begun(seed=seeds, options={"reset_mask": done}), last
        return after, after

    def _begun(self, **how: Any) -> np.ndarray:
        """The observations after a reset."""
        try:
            observation, _ = self.environments.reset(**how)
        except Exception as error:
            raise UserError(f"environment {self.name}: reset raised {short_message(error)}.") from error
        return self._checked(observation)

    def _note(self, done: np.ndarray) -> None:
        self._ended += zip(self.returns[done].tolist(), self.lengths[done].tolist(), strict=True)
        self.returns[done], self.lengths[done] = 0, 0

    def _checked(self, observation: np.ndarray, action: np.ndarray | None = None) -> np.ndarray:
        """A copy in float32, or as bytes or numbers of states; the environments write into their own again."""
        if not self.is_float:
            return observation.copy()
        self._check_finite(observation, action)
        return observation.astype(np.float32)

    def _check_finite(self, observation: np.ndarray, action: np.ndarray | None = None) -> None:
        if self.is_float and not np.isfinite(observation).all():
            if action is not None:
                _check_action(action)
            wrong = np.flatnonzero(~np.isfinite(observation).reshape(self.num_envs, -1).all(axis=1))
            raise UserError(
                f"environment {self.name}: the observation of environment {wrong[0]} has values that are not finite: "
                f"{np.array2string(observation[wrong[0]], threshold=8)}."
            )

    def ended(self) -> Episodes:
        """Episodes that have ended since the last call."""
        ended, self._ended = self._ended, []
        returns, lengths = zip(*ended, strict=True) if ended else ((), ())
        episode_return, length = (torch.tensor(part, dtype=torch.float32) for part in (returns, lengths))
        return Episodes(episode_return, length, torch.arange(len(ended)))

    def state_dict(self) -> dict[str, Any]:
        """What goes on with the running episodes, besides the environments' own state."""
        names = ("start", "only_reset", "returns", "lengths", "observation")
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in names} | {"ended": list(self._ended)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        for name in ("start", "only_reset", "returns", "lengths", "observation"):
            setattr(self, name, state[name].numpy().copy())
        self._ended = [(float(value), int(length)) for value, length in state["ended"]]


def _check_action(action: np.ndarray) -> None:
    """Before the environment is blamed for what came of it."""
    if not np.isfinite(action).all():
        raise UserError(
            f"training diverged: the agent chose the action {action.tolist()}. Lower the learning rate, or clip "
            "gradients (model.init_args.gradient_clip_val)."
        )
