"""One episode of an agent in one environment, seen."""

from typing import NamedTuple

import gymnasium
import numpy as np
import torch

from toolkit.errors import UserError
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
        UserError: The environment cannot be rendered.
    """
    film = _Film(environment, most_frames)
    total, length, over = 0.0, 0, False
    try:
        observation, _ = environment.reset(seed=seed)
        with agent.evaluating():
            while not over:
                film.look()
                batch = torch.as_tensor(np.asarray(observation))[None].to(agent.device)
                batch = batch.float() if batch.is_floating_point() else batch
                start = torch.tensor([length == 0], device=agent.device)
                action = agent.environment_action(agent.greedy(batch, start))[0].cpu().numpy()
                action = action[()]  # a discrete one as a number: toy text looks it up in a dict
                observation, reward, terminated, truncated, _ = environment.step(action)
                total, length, over = total + float(reward), length + 1, bool(terminated or truncated)
        film.look(is_last=True)
    finally:
        environment.close()
    return Watched(total, length, film.frames)


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the environment cannot be rendered: {reason}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise UserError(f"the environment renders {type(picture).__name__}, not a picture; it has no rgb_array mode.")
    return picture[..., :3].astype(np.uint8)
