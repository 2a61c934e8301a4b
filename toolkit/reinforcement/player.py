"""One episode of an agent in one environment, seen."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from toolkit.errors import UserError, short_message
from toolkit.experience import within
from toolkit.reinforcement.reinforcement_task import ReinforcementTask


class Watched(NamedTuple):
    """An episode that was watched."""

    episode_return: float
    """Sum of the rewards."""
    length: int
    """Steps."""
    frames: list[np.ndarray]
    """``(H, W, 3)``, uint8: of every step, or of every second, fourth, ... where there would be too many; the last one
    is the episode's last. Empty if nobody asked for them."""


def play_and_watch(agent: ReinforcementTask, environment: gymnasium.Env, seed: int, most_frames: int = 0) -> Watched:
    """Play a greedy episode, and close the environment.

    Args:
        agent: The agent; its memory and its generators are left as they are.
        environment: Made with ``render_mode="rgb_array"`` if frames are wanted.
        seed: Of the episode.
        most_frames: Rendered frames to keep; none if 0. An episode of a thousand steps is a gigabyte of them.

    Raises:
        UserError: The environment cannot be rendered, raises an error, or shows what is not finite.
    """
    film = _Film(environment, most_frames)
    total, length, over = 0.0, 0, False
    try:
        observation = _begun(environment, seed)
        with agent.evaluating():
            while not over:
                film.look()
                batch = torch.as_tensor(np.asarray(observation))[None].to(agent.device)
                batch = batch.float() if batch.is_floating_point() else batch
                start = torch.tensor([length == 0], device=agent.device)
                action = agent.environment_action(agent.greedy(batch, start))[0].cpu().numpy()
                if isinstance(space := environment.action_space, Box):
                    action = within(action, space.low, space.high)
                action = action[()]  # a discrete one as a number: toy text looks it up in a dict
                observation, reward, over = _stepped(environment, action)
                total, length = total + reward, length + 1
        film.look(is_last=True)
    finally:
        environment.close()
    return Watched(total, length, film.frames)


def check_renders(environment: gymnasium.Env) -> None:
    """Draw one picture, and close the environment.

    Raises:
        UserError: It cannot be drawn, such as for want of a package or of a display.
    """
    try:
        _begun(environment, seed=0)
        _rendered(environment)
    finally:
        environment.close()


def _begun(environment: gymnasium.Env, seed: int) -> Any:
    try:
        observation, _ = environment.reset(seed=seed)
    except Exception as error:
        raise UserError(f"environment {_name(environment)}: reset raised {short_message(error)}.") from error
    return _checked(environment, observation)


def _stepped(environment: gymnasium.Env, action: Any) -> tuple[Any, float, bool]:
    """The observation, the reward, and whether that was the episode's end."""
    try:
        observation, reward, terminated, truncated, _ = environment.step(action)
    except Exception as error:
        reason = short_message(error)
        raise UserError(f"environment {_name(environment)}: step({action.tolist()}) raised {reason}.") from error
    return _checked(environment, observation), float(reward), bool(terminated or truncated)


def _checked(environment: gymnasium.Env, observation: Any) -> Any:
    array = np.asarray(observation)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = np.array2string(array, threshold=8)
        raise UserError(f"environment {_name(environment)}: the observation has values that are not finite: {values}.")
    return observation


def _name(environment: gymnasium.Env) -> str:
    return environment.spec.id if environment.spec else type(environment.unwrapped).__name__


class _Film:
    """Keeps every n-th frame, and doubles n when there are too many."""

    def __init__(self, environment: gymnasium.Env, most: int) -> None:
        self.environment, self.most = environment, most
        self.frames: list[np.ndarray] = []
        self.every, self.seen = 1, 0

    def look(self, is_last: bool = False) -> None:
        """Before each step, and after the last one."""
        if self.most and (self.seen % self.every == 0 or is_last):
            if len(self.frames) >= self.most:
                self.frames, self.every = self.frames[::2], 2 * self.every
            if self.seen % self.every == 0 or is_last:
                self.frames.append(_rendered(self.environment))
        self.seen += 1


def _rendered(environment: gymnasium.Env) -> np.ndarray:
    try:
        picture = environment.render()
    except Exception as error:
        raise UserError(f"the environment cannot be rendered: {short_message(error)}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise UserError(f"the environment renders {type(picture).__name__}, not a picture; it has no rgb_array mode.")
    return picture[..., :3].astype(np.uint8)
