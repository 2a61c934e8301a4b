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
    """``(H, W, 3)``, uint8, one before the first step and one after each; empty if nobody asked for them."""


def play_and_watch(agent: ReinforcementTask, environment: gymnasium.Env, seed: int, frames: bool = True) -> Watched:
    """Play a greedy episode, and close the environment.

    Args:
        agent: The agent; its memory and its generators are left as they are.
        environment: Made with ``render_mode="rgb_array"`` if frames are wanted.
        seed: Of the episode.
        frames: Whether to render.

    Raises:
        UserError: The environment cannot be rendered.
    """
    seen: list[np.ndarray] = []
    total, length, over = 0.0, 0, False
    try:
        observation, _ = environment.reset(seed=seed)
        with agent.evaluating():
            while not over:
                if frames:
                    seen.append(_rendered(environment))
                batch = torch.as_tensor(np.asarray(observation))[None].to(agent.device)
                batch = batch.float() if batch.is_floating_point() else batch
                start = torch.tensor([length == 0], device=agent.device)
                action = agent.environment_action(agent.greedy(batch, start))[0].cpu().numpy()
                action = action[()]  # a discrete one as a number: toy text looks it up in a dict
                observation, reward, terminated, truncated, _ = environment.step(action)
                total, length, over = total + float(reward), length + 1, bool(terminated or truncated)
        if frames:
            seen.append(_rendered(environment))
    finally:
        environment.close()
    return Watched(total, length, seen)


def _rendered(environment: gymnasium.Env) -> np.ndarray:
    try:
        picture = environment.render()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the environment cannot be rendered: {reason}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise UserError(f"the environment renders {type(picture).__name__}, not a picture; it has no rgb_array mode.")
    return picture[..., :3].astype(np.uint8)
