"""Episodes that are played to be counted: each begins with a seed of its own, whatever the run and the ranks do."""

from collections.abc import Callable

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from datamodules.adapter import EnvironmentAdapter
from toolkit.experience import Episodes, EvaluationSource

Act = Callable[[Tensor, Tensor], Tensor]


class Evaluation(EvaluationSource):
    """Plays episodes on environments that nothing else uses.

    Args:
        environments: Of N environments, with autoreset switched off.
        name: Of the environment.
        seeds: Of each episode that this rank plays.
        index: Their numbers among all ranks' episodes.
    """

    def __init__(self, environments: VectorEnv, name: str, seeds: list[int], index: list[int]) -> None:
        self.adapter = EnvironmentAdapter(environments, name, self._next_seed)
        self.num_envs = environments.num_envs
        self.seeds, self.index = seeds, index
        self._waiting: list[int] = []
        self._playing: list[int | None] = []
        """Which episode each environment plays; None where it idles, for fewer are left than there are environments."""

    def __len__(self) -> int:
        return len(self.seeds)

    def play(self, act: Act) -> Episodes:
        """Play them all."""
        self._waiting = list(range(len(self.seeds)))[::-1]
        self._playing = [None] * self.num_envs
        self.adapter.reset([self._next_seed(number) for number in range(self.num_envs)])
        returns, lengths = np.zeros(len(self.seeds)), np.zeros(len(self.seeds))
        left = len(self.seeds)
        while left:
            playing = list(self._playing)
            start = torch.from_numpy(self.adapter.start.copy())
            step = self.adapter.step(act(torch.from_numpy(self.adapter.observation), start).numpy())
            over = step.terminated | step.truncated
            for number, episode in enumerate(playing):
                if episode is not None:
                    returns[episode] += step.reward[number]
                    lengths[episode] += 1
                    left -= int(over[number])
        episode_return, length = (torch.from_numpy(part).float() for part in (returns, lengths))
        return Episodes(episode_return, length, torch.tensor(self.index))

    def _next_seed(self, number: int) -> int:
        self._playing[number] = episode = self._waiting.pop() if self._waiting else None
        return 0 if episode is None else self.seeds[episode]
