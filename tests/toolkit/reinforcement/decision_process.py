"""Small decision processes for tabular agents, and a Trainer to learn them in."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from toolkit.experience import Episodes, OnlineSource, Policy, VectorStep
from toolkit.reinforcement.tabular import TabularTask


class Process(NamedTuple):
    """Everything is certain but where an episode begins."""

    following: list[list[int]]
    """(S, K)"""
    reward: list[list[float]]
    terminates: list[list[bool]]
    cut: list[list[bool]]
    first: list[int]


CHAIN = Process(
    following=[[0, 1], [1, 2], [2, 2]],
    reward=[[0.2, 0.0], [0.2, 0.0], [0.2, 1.0]],
    terminates=[[False, False], [False, False], [False, True]],
    cut=[[True, False], [True, False], [True, False]],
    first=[0, 1, 2],
)
"""Three places in a row. Action 1 walks on; from the last place it earns 1 and terminates. Action 0 waits, earns 0.2,
and the episode is cut."""
CHAIN_OPTIMAL = [[0.4, 0.25], [0.45, 0.5], [0.7, 1.0]]
"""With gamma 0.5. Waiting for ever is worth 0.2 / (1 - 0.5): were a cut an end, it would be worth 0.2; were the end a
cut, the last step would be worth more than 1."""
LEDGE = Process(
    following=[[0, 1], [1, 1]],
    reward=[[-3.0, -1.0], [-1.0, -100.0]],
    terminates=[[True, False], [True, True]],
    cut=[[False, False], [False, False]],
    first=[0],
)
"""From the first place action 0 is a safe detour, for -3; action 1, for -1, leads onto a ledge. There action 0 gets home
for -1, and action 1 falls, for -100."""


class Processes(OnlineSource):
    """N of a process at once; every other step of the first is only a reset, if that is asked for."""

    def __init__(self, process: Process, num_envs: int, steps: int, resets: bool = False) -> None:
        self.following, self.reward, self.terminates, self.cut = (torch.tensor(part) for part in process[:4])
        self.first = torch.tensor(process.first)
        self.num_envs, self.number, self.resets = num_envs, steps, resets
        self.place, self.start = self._begin(), torch.ones(num_envs, dtype=torch.bool)
        self.acted: list[Tensor] = []

    def _begin(self) -> Tensor:
        return self.first[torch.randint(len(self.first), (self.num_envs,))]

    def __len__(self) -> int:
        return self.number * self.num_envs

    def finished(self) -> Episodes:
        return Episodes(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    def steps(self, policy: Policy) -> Iterator[VectorStep]:
        for number in range(self.number):
            place, action = self.place, policy.act(self.place, self.start).action
            self.acted.append(action)
            policy.count_steps(self.num_envs)
            at = (place, action)
            following, ended, cut = self.following[at], self.terminates[at], self.cut[at]
            valid = torch.ones(self.num_envs, dtype=torch.bool)
            if self.resets and number % 2:
                valid[0] = False
            reward = self.reward[at].where(valid, torch.tensor(1e6))  # what must not be learned from
            self.start = ended | cut
            self.place = torch.where(self.start, self._begin(), following)
            yield VectorStep(place, action, reward, following, ended, cut, valid)


class Stream:
    """The same source again and again."""

    def __init__(self, source: Processes, items: int) -> None:
        self.source, self.items = source, items

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[Processes]:
        return iter([self.source] * self.items)


def fit(task: TabularTask, source: Processes, items: int, checkpoint: Path | None = None) -> Trainer:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, Stream(source, items), Stream(source, 0), ckpt_path=checkpoint, weights_only=True)
    return trainer
