"""What a task of reinforcement learning and the DataModule that owns its environments say to each other.

Shape legend: T time steps, N environments, B transitions, S an observation's shape, A action dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


def within(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Continuous actions ``(..., A)`` in the precision of their bounds ``(A,)``, and not rounded beyond these.

    >>> low, high = np.full(1, -0.1), np.full(1, 0.1)
    >>> action = np.float32([0.1])
    >>> bool(action > high), bool(within(action, low, high) > high)
    (True, False)
    """
    # twice as fast as np.clip, which counts: each step of the environments passes here
    bounded: np.ndarray = np.minimum(np.maximum(action, low), high)
    return bounded.astype(low.dtype, copy=False)


class PolicyStep(NamedTuple):
    """What a policy does in N environments at once."""

    action: Tensor
    """``(N,)``, int64, or ``(N, A)``, float32, in the policy's own units; see `Policy.environment_action`."""
    log_probability: Tensor | None = None
    """``(N,)``, of the action; of policies that learn from rollouts."""
    value: Tensor | None = None
    """``(N,)``, of the observation; of policies that learn from rollouts."""


class Policy(Protocol):
    """What collects experience: a task."""

    gamma: float
    """Discount of a time step."""

    @property
    def device(self) -> torch.device:
        """Where its network is."""

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""

    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """Explore: an action for each of N environments.

        Args:
            observation: ``(N, *S)``.
            start: ``(N,)``, bool; where an episode has just begun, so that a memory is to be cleared.
        """

    def act_randomly(self, count: int) -> Tensor:
        """``count`` actions that know nothing: ``(N,)`` or ``(N, A)``, uniform over the action space."""

    def value(self, observation: Tensor) -> Tensor:
        """The value of observations after the last `act`, ``(N, *S)`` to ``(N,)``; a memory is read and not moved."""

    def environment_action(self, action: Tensor) -> Tensor:
        """An action in the environment's units."""

    def count_steps(self, count: int) -> None:
        """So many environment steps were taken, on this rank; those that only reset count, so that ranks stay equal."""


class Rollout(NamedTuple):
    """T steps of N environments, all by the same policy; tensors on the policy's device."""

    observation: Tensor
    """``(T, N, *S)``."""
    action: Tensor
    """``(T, N)``, int64, or ``(T, N, A)``, float32; in the policy's units."""
    log_probability: Tensor
    """``(T, N)``, of the actions when they were taken."""
    value: Tensor
    """``(T, N)``, of the observations when they were made."""
    next_value: Tensor
    """``(T, N)``, of what followed; where an episode was cut, of its last observation."""
    reward: Tensor
    """``(T, N)``."""
    discounted_return: Tensor
    """``(T, N)``, of the rewards so far in the episode: what reward normalisation measures."""
    terminated: Tensor
    """``(T, N)``, bool; the episode's end is part of the problem, so that nothing follows."""
    truncated: Tensor
    """``(T, N)``, bool; the episode was cut, so that what would follow is estimated by ``next_value``."""
    valid: Tensor
    """``(T, N)``, bool; false where a step only reset its environment."""
    start: Tensor
    """``(T, N)``, bool; whether the observation is the first of its episode."""


class Transitions(NamedTuple):
    """A minibatch from a replay buffer; tensors on the policy's device."""

    observation: Tensor
    """``(B, *S)``."""
    action: Tensor
    """``(B,)``, int64, or ``(B, A)``, float32; in the policy's units."""
    reward: Tensor
    """``(B,)``, the discounted sum of up to n rewards."""
    next_observation: Tensor
    """``(B, *S)``, after these rewards."""
    discount: Tensor
    """``(B,)``, of the value of the next observation: gamma to the number of rewards; 0 after a termination."""
    weight: Tensor
    """``(B,)``, by which a prioritised sample's loss is to be multiplied; 1 elsewhere."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, where they lie in the buffer."""


class VectorStep(NamedTuple):
    """One step of N environments, to be learned from at once; tensors on the policy's device."""

    observation: Tensor
    """``(N, *S)``, before the step."""
    action: Tensor
    """``(N,)``, int64, or ``(N, A)``, float32; in the policy's units."""
    reward: Tensor
    """``(N,)``."""
    next_observation: Tensor
    """``(N, *S)``, after the step; where the episode ended, its last one."""
    terminated: Tensor
    """``(N,)``, bool; nothing follows."""
    truncated: Tensor
    """``(N,)``, bool; the episode was cut, so that what would follow is estimated from ``next_observation``."""
    valid: Tensor
    """``(N,)``, bool; false where the environment was only reset."""


class Episodes(NamedTuple):
    """Finished episodes."""

    episode_return: Tensor
    """``(E,)``, float32, sum of the rewards, not discounted."""
    length: Tensor
    """``(E,)``, float32, steps."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(E,)``, int64, which of the evaluation's episodes."""


class ExperienceSource(ABC):
    """One item of an experience stream: it steps the environments when the training step asks, and not before.

    So between two training steps nothing has been collected that was not trained on, and a checkpoint written there is
    exact.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Environment steps in one item, on this rank."""

    @abstractmethod
    def finished(self) -> Episodes:
        """Training episodes that have ended since the last call."""


class RolloutSource(ExperienceSource):
    """Steps all environments T times and hands over what happened."""

    @abstractmethod
    def collect(self, policy: Policy) -> Rollout:
        """T steps of N environments."""


class ReplaySource(ExperienceSource):
    """Steps the environments, keeps what happened, and draws from all that it has kept."""

    @abstractmethod
    def minibatches(self, policy: Policy) -> Iterator[Transitions]:
        """Step the environments; in between, a minibatch for each update that is due."""

    @abstractmethod
    def update_priorities(self, index: Tensor, error: Tensor) -> None:
        """Say how wrong the predictions for transitions were, ``(B,)`` each; nothing happens without priorities."""


class OnlineSource(ExperienceSource):
    """Steps the environments, and forgets what happened as soon as it was learned from."""

    @abstractmethod
    def steps(self, policy: Policy) -> Iterator[VectorStep]:
        """Each step of the environments before the next one is taken."""


class EvaluationSource(ABC):
    """The one item of an evaluation: episodes on environments of its own, each with its own fixed seed."""

    num_envs: int
    """N, played at once."""

    @abstractmethod
    def play(self, act: Callable[[Tensor, Tensor], Tensor]) -> Episodes:
        """Play this rank's share of the episodes.

        Args:
            act: From observations ``(N, *S)`` on the CPU and ``(N,)``, whether an episode has just begun, to actions in
                the environment's units.
        """


class HoldsExperience:
    """A DataModule whose state is large, and needed for nothing but going on with the training."""

    saves_experience: bool = False
    """Whether its state goes into checkpoints; true while the last checkpoint is written, false for the best."""
