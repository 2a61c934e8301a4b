"""How an agent's steps become what it learns from: rollouts of the present policy, or a memory of all that happened."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from datamodules.adapter import EnvironmentAdapter
from datamodules.replay_buffer import Priorities, ReplayBuffer
from toolkit.errors import UserError
from toolkit.experience import Episodes, ExperienceSource, Policy, ReplaySource, Rollout, RolloutSource, Transitions


class Experience(ExperienceSource, ABC):
    """Configured in YAML without environments; the DataModule gives it those of its rank by `begin`."""

    adapter: EnvironmentAdapter
    warmup_steps = 0
    """Environment steps of a rank before the first update."""

    def begin(self, adapter: EnvironmentAdapter, gamma: float, folder: Path) -> None:
        """Take the environments, which have been reset.

        Args:
            adapter: This rank's environments.
            gamma: The policy's discount.
            folder: For what does not fit into memory.
        """
        self.adapter = adapter
        self._begin(gamma, folder)

    def _begin(self, gamma: float, folder: Path) -> None:
        """Make what depends on the environments."""

    @abstractmethod
    def steps_per_item(self, num_envs: int) -> int:
        """Environment steps of one item of the stream, on one rank."""

    def __len__(self) -> int:
        return self.steps_per_item(self.adapter.num_envs)

    def finished(self) -> Episodes:
        """Episodes that have ended since the last call."""
        return self.adapter.ended()

    def cut(self) -> None:
        """The running episodes were cut, and new ones have begun."""

    def state_dict(self) -> dict[str, Any]:
        """What is kept besides the environments."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""

    def _observed(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """What a policy acts on: the observations, and where an episode has just begun."""
        observation, start, device = self.adapter.observation, self.adapter.start, policy.device
        return torch.from_numpy(observation).to(device), torch.from_numpy(start).to(device)


class Rollouts(Experience, RolloutSource):
    """All environments step T times by the present policy, which is trained on that and on nothing older.

    Args:
        steps: T.

    Raises:
        UserError: ``steps`` is not positive.
    """

    def __init__(self, steps: int = 128) -> None:
        if steps < 1:
            raise UserError(f"data.init_args.experience.steps: need at least 1, got {steps}.")
        self.steps = steps

    def steps_per_item(self, num_envs: int) -> int:
        """T times N."""
        return self.steps * num_envs

    def _begin(self, gamma: float, folder: Path) -> None:
        self.gamma = gamma
        self.running = np.zeros(self.adapter.num_envs)
        """Discounted sum of the rewards of the running episodes."""

    @torch.no_grad()
    def collect(self, policy: Policy) -> Rollout:
        """Step T times."""
        rows: list[tuple[Tensor, ...]] = []
        cut: dict[int, Tensor] = {}
        """Values of the last observations of episodes that were cut, by step."""
        for number in range(self.steps):
            observation, start = self._observed(policy)
            taken = policy.act(observation, start)
            assert taken.log_probability is not None, "a policy that learns from rollouts"
            assert taken.value is not None, "a policy that learns from rollouts"
            action = policy.environment_action(taken.action)
            step = self.adapter.step(action.cpu().numpy())
            policy.count_steps(self.adapter.num_envs)
            if step.truncated.any():
                cut[number] = policy.value(torch.from_numpy(step.next_observation).to(policy.device))
            rows.append((observation, taken.action, taken.log_probability, taken.value, start, *self._kept(step)))
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        observations, actions, log_probabilities, values, starts = columns[:5]
        rewards, returns, terminated, truncated, valid = (column.to(policy.device) for column in columns[5:])
        last, _ = self._observed(policy)
        next_values = torch.cat([values[1:], policy.value(last)[None]])  # (T, N)
        for number, value in cut.items():
            next_values[number] = value.where(truncated[number], next_values[number])
        return Rollout(
            observations, actions, log_probabilities, values, next_values, rewards, returns, terminated, truncated,
            valid, starts,
        )  # fmt: skip

    def _kept(self, step: Any) -> tuple[Tensor, ...]:
        """Reward, discounted return, terminated, truncated, valid."""
        self.running = self.running * self.gamma + step.reward
        returns = self.running
        self.running = np.where(step.terminated | step.truncated, 0.0, returns)
        flags = (torch.from_numpy(flag.copy()) for flag in (step.terminated, step.truncated, step.valid))
        return torch.from_numpy(step.reward).float(), torch.from_numpy(returns).float(), *flags

    def cut(self) -> None:
        """New episodes have earned nothing."""
        self.running[:] = 0

    def state_dict(self) -> dict[str, Any]:
        """The running returns."""
        return {"running": torch.from_numpy(self.running.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self.running = state["running"].numpy().copy()


class Replay(Experience, ReplaySource):
    """Keeps what happened, and draws minibatches from all of it.

    Lin, "Self-Improving Reactive Agents Based on Reinforcement Learning, Planning and Teaching", Machine Learning,
    1992.
    Every ``train_every`` environment steps, ``updates`` minibatches are drawn, whatever an item of the stream holds.

    Args:
        capacity: Transitions that are kept, of all environments of a rank.
        batch_size: Transitions in a minibatch, of this rank.
        train_every: Steps of the vector environment between updates.
        updates: Minibatches then.
        steps_per_item: Steps of the vector environment in one item of the stream, a multiple of ``train_every``: how
            much is done between two looks of the Trainer.
        warmup_steps: Environment steps of this rank that are taken at random, before the first update.
        n_step: Rewards that are summed before the value of the next observation (Sutton, 1988).
        prioritized: How large errors are drawn more often; all alike if None.
        in_memory: Whether observations are kept in memory, or in files in the run folder.

    Raises:
        UserError: A number is not positive, or steps do not divide.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        batch_size: int = 64,
        train_every: int = 4,
        updates: int = 1,
        steps_per_item: int = 256,
        warmup_steps: int = 1_000,
        n_step: int = 1,
        prioritized: Priorities | None = None,
        in_memory: bool = True,
    ) -> None:
        counts = {"batch_size": batch_size, "train_every": train_every, "updates": updates, "n_step": n_step}
        wrong = [f"{name} {value}" for name, value in counts.items() if value < 1]
        if wrong or warmup_steps < 0 or steps_per_item < 1 or steps_per_item % train_every:
            raise UserError(
                f"data.init_args.experience: need batch_size, train_every, updates and n_step >= 1, warmup_steps >= 0, "
                f"and steps_per_item a multiple of train_every, got {counts}, warmup_steps {warmup_steps} and "
                f"steps_per_item {steps_per_item}."
            )
        self.capacity, self.batch_size, self.train_every, self.updates = capacity, batch_size, train_every, updates
        self.steps, self.warmup_steps, self.n_step = steps_per_item, warmup_steps, n_step
        self.prioritized, self.in_memory = prioritized, in_memory

    def steps_per_item(self, num_envs: int) -> int:
        """Those of the vector environment times N."""
        return self.steps * num_envs

    def _begin(self, gamma: float, folder: Path) -> None:
        environments = self.adapter.environments
        action = environments.single_action_space
        observation = torch.from_numpy(self.adapter.observation)
        self.buffer = ReplayBuffer(
            self.capacity,
            self.adapter.num_envs,
            observation.shape[1:],
            observation.dtype,
            action.shape or (),
            torch.int64 if isinstance(action, Discrete) else torch.float32,
            gamma=gamma,
            n_step=self.n_step,
            priorities=self.prioritized,
            folder=None if self.in_memory else folder,
        )
        self.taken = 0
        """Environment steps so far."""

    def minibatches(self, policy: Policy) -> Iterator[Transitions]:
        """Step the environments; in between, draw."""
        for number in range(1, self.steps + 1):
            self._step(policy)
            if number % self.train_every == 0 and self.taken > self.warmup_steps and len(self.buffer):
                for drawn in self.buffer.sample(self.updates, self.batch_size, policy.progress):
                    yield drawn if policy.device.type == "cpu" else Transitions(*(t.to(policy.device) for t in drawn))

    def _step(self, policy: Policy) -> None:
        if self.taken < self.warmup_steps:
            action = policy.act_randomly(self.adapter.num_envs)
        else:
            action = policy.act(*self._observed(policy)).action
        step = self.adapter.step(policy.environment_action(action).cpu().numpy())
        self.buffer.add(
            step.observation, action.cpu().numpy(), step.reward, step.next_observation, step.terminated, step.truncated,
            step.valid,
        )  # fmt: skip
        self.taken += self.adapter.num_envs
        policy.count_steps(self.adapter.num_envs)

    def update_priorities(self, index: Tensor, error: Tensor) -> None:
        """Draw transitions more often whose predictions are wrong."""
        if self.prioritized is not None:
            self.buffer.update_priorities(index, error)

    def cut(self) -> None:
        """What was stored last of each episode is its end."""
        self.buffer.cut()

    def state_dict(self) -> dict[str, Any]:
        """The memory."""
        return {"buffer": self.buffer.state_dict(), "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self.buffer.load_state_dict(state["buffer"])
        self.taken = state["taken"]
