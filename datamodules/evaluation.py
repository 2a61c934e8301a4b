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

    def play(self, act: Act, most_steps: int | None = None) -> Episodes:
        """Play them all.

        Args:
            act: As in `EvaluationSource`.
            most_steps: Of each environment, if not all episodes must end: those that run then count as they stand, and
                those that have not begun are left out.
        """
        self._waiting = list(range(len(self.seeds)))[::-1]
        self._playing = [None] * self.num_envs
        self.adapter.reset([self._next_seed(number) for number in range(self.num_envs)])
        returns, lengths = np.zeros(len(self.seeds)), np.zeros(len(self.seeds))
        left, steps = len(self.seeds), 0
        while left and steps != most_steps:
            steps += 1
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
        self.adapter.ended()  # counted here, with their seeds
        begun = length > 0
        return Episodes(episode_return[begun], length[begun], torch.tensor(self.index)[begun])

    def _next_seed(self, number: int) -> int:
        self._playing[number] = episode = self._waiting.pop() if self._waiting else None
        return 0 if episode is None else self.seeds[episode]
