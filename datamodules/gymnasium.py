"""Environments of gymnasium as a DataModule: the experience stream of training, and episodes to evaluate by."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Env
from gymnasium.spaces import Box, Discrete
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from datamodules.adapter import EnvironmentAdapter
from datamodules.environment_state import read_state, write_state
from datamodules.environments import Environments, Wrapper
from datamodules.evaluation import Act, Evaluation
from datamodules.experience import Experience, Rollouts
from datamodules.source import DataSource
from toolkit.errors import UserError
from toolkit.experience import HoldsExperience
from toolkit.keys import single_key
from toolkit.types import Baseline, Stage

EVALUATION_SEEDS = {"val": 1_000_000, "test": 2_000_000}
"""Of the first episode; the same in every run, and far from those of training."""
BASELINE_EPISODES = 20
"""So many are enough to see what a policy that knows nothing gets."""
BASELINE_STEPS = 3_000
"""Of each of its environments; who does nothing in Breakout is not asked for half an hour."""
CONSTANTS_STEPS = 30_000
"""The same, of all policies together that always do one thing."""
MOST_CONSTANTS = 20
"""Of very many discrete actions, so many are tried, evenly spread."""


class ExperienceStream:
    """What the Trainer iterates over: the same source again and again, so many times an epoch.

    Args:
        experience: Steps the environments when the training step asks.
        length: Items of an epoch.
        position: How many of the running epoch the trainer has been through.
    """

    def __init__(self, experience: Experience, length: int, position: Any) -> None:
        self.experience, self.length, self.position = experience, length, position

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Experience]:
        for _ in range(self.position(), self.length):
            yield self.experience

    def state_dict(self) -> dict[str, Any]:
        """Nothing; that there is one tells the Trainer that an epoch can be resumed in its middle."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


class OneEvaluation:
    """What the Trainer iterates over in an evaluation: one item, all its episodes.

    Args:
        evaluation: The item.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Evaluation]:
        yield self.evaluation


class GymnasiumDataModule(DataSource, HoldsExperience):
    """An environment: N of it to train on, on each rank, and others, with fixed seeds, to evaluate on.

    Validation plays ``val_episodes`` greedy episodes after each epoch, test ``test_episodes``. A resumed run goes on in
    the middle of its episodes where the environments' state can be read (classic control, toy text); elsewhere they are
    cut, and the log says so.

    Args:
        env_id: Registered with gymnasium; ``module:Name-v0`` imports the module first.
        total_steps: Environment steps of the run, over all ranks.
        steps_per_epoch: Environment steps between two validations, over all ranks.
        num_envs: N, of one rank.
        experience: How steps become what is learned from; `Rollouts` if None.
        vectorization: The N environments one after the other (``sync``), each in a process (``async``), or in the
            environment's own vector form (``own``).
        wrappers: Put around each environment, in this order, such as ``gymnasium.wrappers.RescaleAction``.
        options: Arguments of the environment.
        max_episode_steps: As of `datamodules.environments.Environments`.
        atari: Whether to treat it as the Atari agents do: frame skip 4, 84 x 84 grey pixels, the last four frames.
        val_episodes: Episodes of a validation.
        test_episodes: Episodes of a test.

    Raises:
        UserError: A number is not positive, or the environment cannot be made or used; at a fit's start, the warm-up is
            as long as the run.
    """

    def __init__(
        self,
        env_id: str,
        total_steps: int = 100_000,
        steps_per_epoch: int = 10_000,
        num_envs: int = 1,
        experience: Experience | None = None,
        vectorization: Literal["sync", "async", "own"] = "sync",
        wrappers: list[Wrapper] | None = None,
        options: dict[str, Any] | None = None,
        max_episode_steps: int | None = None,
        atari: bool = False,
        val_episodes: int = 10,
        test_episodes: int = 100,
    ) -> None:
        super().__init__()
        counts = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch, "num_envs": num_envs}
        counts |= {"val_episodes": val_episodes, "test_episodes": test_episodes}
        for name, value in counts.items():
            if value < 1:
                raise UserError(f"data.init_args.{name}: need at least 1, got {value}.")
        self.total_steps, self.steps_per_epoch, self.num_envs = total_steps, steps_per_epoch, num_envs
        self.experience = Rollouts() if experience is None else experience
        self.vectorization = vectorization
        self.episodes = {"val": val_episodes, "test": test_episodes}
        self.environments = Environments(env_id, options or {}, wrappers or (), max_episode_steps, atari)
        probe = self.environments.make(training=False)
        self.observation_space, self.action_space = probe.observation_space, probe.action_space
        probe.close()
        self._pending: dict[str, Any] | None = None
        """The state of a checkpoint, until there are environments to put it into."""
        self._has_begun = False
        self._group: Any = None
        """Of all ranks, for what lies in the computers' memory; made when it is needed."""
        self._evaluations: dict[Stage, Evaluation] = {}

    # What tasks and networks are told ---------------------------------------------------------------------------------

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """S; () for numbers of states."""
        return tuple(self.observation_space.shape or ())

    @property
    def num_states(self) -> int | None:
        """Of observations that are numbers of states."""
        return int(self.observation_space.n) if isinstance(self.observation_space, Discrete) else None

    @property
    def num_actions(self) -> int | None:
        """K, of discrete actions."""
        return int(self.action_space.n) if isinstance(self.action_space, Discrete) else None

    @property
    def action_dim(self) -> int | None:
        """A, of continuous actions."""
        return int(self.action_space.shape[0]) if isinstance(self.action_space, Box) else None

    @property
    def action_low(self) -> list[float] | None:
        """The least action, of continuous ones."""
        return self.action_space.low.tolist() if isinstance(self.action_space, Box) else None

    @property
    def action_high(self) -> list[float] | None:
        """The largest action, of continuous ones."""
        return self.action_space.high.tolist() if isinstance(self.action_space, Box) else None

    # Training ---------------------------------------------------------------------------------------------------------

    @property
    def steps_per_item(self) -> int:
        """Environment steps in one item of the stream, over all ranks."""
        return self.experience.steps_per_item(self.num_envs) * self._place()[1]

    def train_dataloader(self) -> ExperienceStream:
        """The stream; begins the environments, or lets those of a checkpoint go on."""
        self._begin()
        length = max(1, self.steps_per_epoch // self.steps_per_item)
        return ExperienceStream(self.experience, length, self._items_done)

    def _items_done(self) -> int:
        """Items of the running epoch that were trained on: more than 0 when a resumed epoch begins."""
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _begin(self) -> None:
        rank, world_size = self._place()
        warmup = self.experience.warmup_steps * world_size
        if warmup >= self.total_steps:
            raise UserError(
                f"data.init_args.experience.warmup_steps: {self.experience.warmup_steps} on each of {world_size} ranks "
                f"are all of the run's total_steps {self.total_steps}, so nothing would be learned; write fewer, or "
                "more total_steps."
            )
        made = self.environments.vector(self.num_envs, self.vectorization, training=True)
        adapter = EnvironmentAdapter(made, self.environments.env_id)
        adapter.reset(single_key(self.seed, 0, rank) % 2**31)
        gamma = getattr(self.trainer.lightning_module, "gamma", 1.0) if self.trainer else 1.0
        self.experience.begin(adapter, gamma, self._folder(rank))
        self._has_begun = True
        if self._pending is not None:
            self._go_on(self._pending)
            self._pending = None
        elif self.trainer is not None and self.trainer.ckpt_path is not None:
            rank_zero_warn(
                f"experience: {self.trainer.ckpt_path} holds none, so new episodes and an empty memory begin; a run "
                "goes on exactly from its last.ckpt, with python cli.py resume RUN_FOLDER."
            )

    def _folder(self, rank: int) -> Path:
        """Where what does not fit into memory goes: into the run folder."""
        root = self.trainer.log_dir or self.trainer.default_root_dir if self.trainer else None
        folder = Path(root or tempfile.gettempdir()) / "replay" / f"rank_{rank}"
        if root is None:
            folder = folder.with_name(f"{folder.name}-{os.getpid()}")
        return folder

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        if stage == "fit" and self._has_begun:
            self.experience.adapter.environments.close()
            self._has_begun = False
        for evaluation in self._evaluations.values():
            evaluation.adapter.environments.close()
        self._evaluations = {}

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The environments, episodes and memory of every rank; empty where a checkpoint needs none."""
        if not (self.saves_experience and self._has_begun):
            return {}
        adapter = self.experience.adapter
        own = {
            "adapter": adapter.state_dict(),
            "environments": read_state(adapter.environments),
            "experience": self.experience.state_dict(),
        }
        ranks = self._of_all_ranks(own)
        if ranks is None:
            return {}  # rank 0 writes
        return {"ranks": ranks, "env_id": self.environments.env_id, "seed": self.seed, "num_envs": self.num_envs}

    def _of_all_ranks(self, own: dict[str, Any]) -> list[Any] | None:
        """On rank 0 what each rank has, through the computers' memory; None elsewhere."""
        rank, world_size = self._place()
        if world_size == 1:
            return [own]
        if self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        ranks: list[Any] | None = [None] * world_size if rank == 0 else None
        torch.distributed.gather_object(own, ranks, dst=0, group=self._group)
        return ranks

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the environments are there."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self._pending = state_dict

    def _go_on(self, state: dict[str, Any]) -> None:
        """Put a checkpoint's experience in place of a new beginning."""
        rank, world_size = self._place()
        ranks = state.get("ranks", [])
        alike = len(ranks) == world_size and state["num_envs"] == self.num_envs
        if not alike or state["env_id"] != self.environments.env_id:
            rank_zero_warn(
                "experience: the checkpoint holds none for this number of environments and ranks; new episodes and an "
                "empty memory begin, and the run does not go on exactly as it would have."
            )
            return
        own = ranks[rank]
        adapter = self.experience.adapter
        self.experience.load_state_dict(own["experience"])
        if own["environments"] is not None:
            write_state(adapter.environments, own["environments"])
            adapter.load_state_dict(own["adapter"])
            return
        assert self.trainer is not None
        items = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready  # more at each resume
        adapter.reset(single_key(self.seed, 1 + items, rank) % 2**31)
        self.experience.cut()
        rank_zero_info(
            f"experience: the state of {self.environments.env_id} cannot be read, so its {self.num_envs} running "
            "episodes were cut, as by a time limit, and new ones begin."
        )

    # Evaluation -------------------------------------------------------------------------------------------------------

    def val_dataloader(self) -> OneEvaluation:
        """One item: the validation's episodes."""
        return OneEvaluation(self.evaluation("val"))

    def test_dataloader(self) -> OneEvaluation:
        """One item: the test's episodes."""
        return OneEvaluation(self.evaluation("test"))

    def predict_dataloader(self) -> OneEvaluation:
        """Those of the test, of which `predict` writes a row each."""
        return self.test_dataloader()

    def evaluation(self, stage: Stage) -> Evaluation:
        """This rank's episodes of a stage."""
        if stage not in self._evaluations:
            rank, world_size = self._place()
            total = self.episodes[stage]
            if total < world_size:
                raise UserError(
                    f"data.init_args.{stage}_episodes: need at least one a rank, {world_size}, got {total}."
                )
            self._evaluations[stage] = self._evaluation(EVALUATION_SEEDS[stage], range(rank, total, world_size))
        return self._evaluations[stage]

    def _evaluation(self, first_seed: int, numbers: range) -> Evaluation:
        environments = self.environments.evaluation(min(len(numbers), 16))
        seeds = [first_seed + number for number in numbers]
        return Evaluation(environments, self.environments.env_id, seeds, list(numbers))

    def player(self) -> Env:
        """One environment that can be rendered."""
        return self.environments.make(training=False, render=True)

    def baseline(self, stage: Stage) -> Baseline | None:
        """What a random policy earns, and beside it the best of the policies that always do the same.

        A policy that the environment does not survive is left out and told; None if the random one is.
        """
        total = min(self.episodes[stage], BASELINE_EPISODES)
        evaluation = self._evaluation(EVALUATION_SEEDS[stage], range(total))
        count = evaluation.num_envs
        draw = np.random.default_rng(0)

        def at_random(*_: torch.Tensor) -> torch.Tensor:
            if isinstance(self.action_space, Discrete):
                return torch.from_numpy(draw.integers(self.action_space.n, size=count))
            assert isinstance(self.action_space, Box)
            low, high = self.action_space.low, self.action_space.high
            return torch.from_numpy(draw.uniform(low, high, (count, len(low))).astype(np.float32))

        def mean_return(name: str, act: Act, most_steps: int) -> float | None:
            nonlocal evaluation
            try:
                return float(evaluation.play(act, most_steps).episode_return.mean())
            except UserError as error:
                rank_zero_warn(f"baseline: {name} is left out: {error}")
                evaluation.adapter.environments.close()
                evaluation = self._evaluation(EVALUATION_SEEDS[stage], range(total))
                return None

        actions = self._constants(count)
        most = min(BASELINE_STEPS, CONSTANTS_STEPS // len(actions))
        played = {
            name: mean_return(f"always {name}", lambda *_, action=action: action, most)
            for name, action in actions.items()
        }
        constants = {name: value for name, value in played.items() if value is not None}
        random = mean_return("a random policy", at_random, BASELINE_STEPS)
        evaluation.adapter.environments.close()
        if random is None:
            return None
        best = max(constants, key=lambda name: constants[name], default=None)
        others = () if best is None else (Baseline(f"always {best}", {"return_mean": constants[best]}),)
        return Baseline("random policy", {"return_mean": random}, others)

    def _constants(self, count: int) -> dict[str, torch.Tensor]:
        """Each discrete action, or some of very many; of continuous ones the least, the middle and the largest."""
        if isinstance(self.action_space, Discrete):
            K = int(self.action_space.n)
            tried = range(K) if K <= MOST_CONSTANTS else [k * K // MOST_CONSTANTS for k in range(MOST_CONSTANTS)]
            return {f"action {k}": torch.full((count,), k) for k in tried}
        assert isinstance(self.action_space, Box)
        low, high = self.action_space.low, self.action_space.high
        values = {"least": low, "middle": (low + high) / 2, "largest": high}
        return {
            f"the {name} action": torch.from_numpy(value).float().repeat(count, 1) for name, value in values.items()
        }
