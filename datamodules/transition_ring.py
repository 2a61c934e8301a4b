"""Transitions of N environments in the order of time, each observation once.

Shape legend: N environments, L slots of each, M = L * N slots, S an observation's shape, A an action's, B transitions.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.observation_store import ObservationStore

NOTHING, STEP, TERMINATED = 0, 1, 2
"""What lies in a slot: no transition, one after which the episode went on or was cut, one that ended it."""


class Drawn(NamedTuple):
    """Transitions over up to n steps; see `toolkit.experience.Transitions`."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    discount: Tensor


class TransitionRing:
    """A ring of slots for each environment, whose slot l is number ``l * N + environment``; the following one is + N.

    A slot holds an observation, and what was done on it: action, reward, and whether that terminated. What was observed
    next is the following slot's observation, so no observation is held twice, which for images halves the memory. An
    episode's last observation has a slot without a transition, and so has a running episode's present one, the ring's
    head. Therefore one rule says where a sum of n rewards stops, be it at a termination, a truncation or the head:
    the following slot holds no transition. As the head moves on it takes the oldest slot, so a transition is
    overwritten before what follows it, and those that remain are whole.

    Args:
        capacity: M, rounded down to a multiple of N; one slot for each transition, and one for each episode's end.
        num_envs: N.
        observation_shape: S.
        observation_dtype: Theirs.
        action_shape: A.
        action_dtype: Theirs.
        folder: See `ObservationStore`.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: Sequence[int],
        observation_dtype: torch.dtype,
        action_shape: Sequence[int],
        action_dtype: torch.dtype,
        folder: Path | None = None,
    ) -> None:
        self.num_envs = num_envs
        self.slots = capacity // num_envs * num_envs
        """M."""
        self.observations = ObservationStore(self.slots, observation_shape, observation_dtype, folder)
        self.action = torch.zeros(self.slots, *action_shape, dtype=action_dtype)
        self.reward = np.zeros(self.slots, np.float32)
        self.kind = np.zeros(self.slots, np.uint8)
        self._actions: NDArray[Any] = self.action.numpy()
        self._kinds = self.kind.data  # for one slot at a time: an item of a memoryview costs a fifth of an array's
        self._head = list(range(num_envs))
        self._present: list[bytes | None] = [None] * num_envs
        """The heads' observations where an episode is running."""
        self.used = 0
        """Slots from this number on were never written."""
        self.steps = 0
        """How often something was added."""
        self.touched: list[int] | None = None
        """Slots that were written, if someone has put a list here to learn of them."""
        self._drawable = 0

    def __len__(self) -> int:
        return self._drawable

    def add(
        self,
        observation: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        next_observation: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> None:
        """Take a step of all environments; see `datamodules.replay_buffer.ReplayBuffer.add`."""
        observation = np.asarray(observation, self.observations.dtype)
        next_observation = np.asarray(next_observation, self.observations.dtype)
        assert observation.shape == next_observation.shape == (self.num_envs, *self.observations.shape)
        assert action.shape == (self.num_envs, *self._actions.shape[1:])
        self.steps += 1
        rows = zip(terminated.tolist(), truncated.tolist(), valid.tolist(), reward.tolist(), strict=True)
        for env, (has_terminated, was_truncated, is_valid, r) in enumerate(rows):
            if not is_valid:
                continue
            present = self._present[env]
            if present != observation[env].tobytes():
                if present is not None:  # the episode was cut, unseen; its last observation keeps its slot
                    self._head[env] = self._after(self._head[env])
                self.observations.write(self._head[env], observation[env])
            head = self._head[env]
            following = self._after(head)
            self._actions[head] = action[env]
            self.reward[head] = r
            self._set_kind(head, TERMINATED if has_terminated else STEP)
            self._set_kind(following, NOTHING)
            self.observations.write(following, next_observation[env])
            if has_terminated or was_truncated:
                self._head[env] = self._after(following)
                self._present[env] = None
            else:
                self._head[env] = following
                self._present[env] = next_observation[env].tobytes()

    def cut(self) -> None:
        """Running episodes do not go on: each head's observation is the last of its episode."""
        for env, present in enumerate(self._present):
            if present is not None:
                self._head[env] = self._after(self._head[env])
                self._present[env] = None

    def _after(self, slot: int) -> int:
        slot += self.num_envs
        return slot if slot < self.slots else slot - self.slots

    def _set_kind(self, slot: int, kind: int) -> None:
        self._drawable += (kind != NOTHING) - (self._kinds[slot] != NOTHING)
        self._kinds[slot] = kind
        self.used = max(self.used, slot + 1)
        if self.touched is not None:
            self.touched.append(slot)

    def gather(self, index: Tensor, gamma: float, n_step: int) -> Drawn:
        """The transitions in slots ``(B,)``, over up to n steps.

        ``reward = sum_{k<m} gamma^k r_k`` with m = n, or fewer where the episode has ended, was cut, or has not come
        further yet; ``next_observation`` is that after the m-th reward, ``discount = gamma^m``, or 0 if that step
        terminated.
        """
        last = index.numpy()
        reward = self.reward[last]
        discount = np.full(len(last), gamma, np.float32)
        for k in range(1, n_step):
            following = (last + self.num_envs) % self.slots
            goes_on = self.kind[following] != NOTHING  # once false it stays so, for last stays
            last = np.where(goes_on, following, last)
            reward += self.reward[following] * goes_on * np.float32(gamma**k)
            discount[goes_on] = gamma ** (k + 1)
        discount[self.kind[last] == TERMINATED] = 0
        next_index = torch.from_numpy((last + self.num_envs) % self.slots)
        return Drawn(
            self.observations.tensor.index_select(0, index),
            self.action.index_select(0, index),
            torch.from_numpy(reward),
            self.observations.tensor.index_select(0, next_index),
            torch.from_numpy(discount),
        )

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; of observations in a file only which they are."""
        return {
            **self.observations.state_dict(self.used),
            "action": self.action[: self.used].clone(),
            "reward": torch.from_numpy(self.reward[: self.used].copy()),
            "kind": torch.from_numpy(self.kind[: self.used].copy()),
            "head": list(self._head),
            "present": self.observations.tensor[self._head],
            "is_running": [present is not None for present in self._present],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Put back what `state_dict` gave, into a ring of the same arguments.

        Returns:
            How many of its transitions are lost, as their observations or those that followed are.
        """
        self.used = len(state["kind"])
        self.action[: self.used] = state["action"]
        self.reward[: self.used] = state["reward"].numpy()
        self.kind[: self.used] = state["kind"].numpy()
        self.kind[self.used :] = NOTHING
        lost = np.zeros(self.slots, np.bool_)
        lost[: self.used] = self.observations.load_state_dict(state)
        self._head = list(state["head"])
        self._present = [None] * self.num_envs
        for env, is_running in enumerate(state["is_running"]):
            if is_running:
                present = state["present"][env].numpy()
                self._present[env] = present.tobytes()
                if lost[self._head[env]]:
                    self.observations.write(self._head[env], present)
                    lost[self._head[env]] = False  # so what led to it is whole
        lost |= np.roll(lost, -self.num_envs)
        number = int(np.count_nonzero(self.kind[lost]))
        self.kind[lost] = NOTHING
        self._drawable = int(np.count_nonzero(self.kind))
        return number
