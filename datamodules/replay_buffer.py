"""A memory of transitions, from which minibatches are drawn.

Shape legend: N environments, S an observation's shape, A action dimensions, B transitions of a minibatch.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from datamodules.priority_sampler import Priorities, PrioritySampler
from datamodules.transition_ring import NOTHING, TransitionRing
from toolkit.errors import UserError
from toolkit.experience import Transitions

__all__ = ["Priorities", "ReplayBuffer"]

BYTES_AT_ONCE = 2**24
"""Of observations that are gathered in one call, for as many minibatches as they make."""


class ReplayBuffer:
    """Keeps the newest transitions of N environments, and draws from all of them with replacement.

    A transition is put together when it is drawn, over as many steps as there are by then; see `TransitionRing`. An
    episode's end takes a place of its own: with episodes of length T it holds ``capacity * T / (T + 1)`` transitions.

    With ``folder`` the observations lie in a file, so that they may be larger than memory, and a checkpoint holds the
    rest. While there is still room a process that was killed loses nothing. Later it overwrites the oldest transitions,
    so those that it overwrote after its last checkpoint are lost to the one that resumes from there: it draws from
    fewer until it has written as many anew, and does not repeat the killed one bit for bit. It says how many.

    Args:
        capacity: Transitions of all environments together; each has the N-th part.
        num_envs: N.
        observation_shape: S.
        observation_dtype: As stored and as drawn.
        action_shape: Of one action; () for numbered ones.
        action_dtype: As stored and as drawn.
        gamma: Discount of a step.
        n_step: Rewards that are summed at most.
        priorities: How errors decide what is drawn; all alike if None.
        folder: Of this buffer alone; in memory if None.

    Raises:
        UserError: An argument is out of its range, or as `ObservationStore` says.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: Sequence[int],
        observation_dtype: torch.dtype,
        action_shape: Sequence[int],
        action_dtype: torch.dtype,
        *,
        gamma: float,
        n_step: int = 1,
        priorities: Priorities | None = None,
        folder: Path | None = None,
    ) -> None:
        if num_envs < 1 or n_step < 1 or not 0 <= gamma <= 1:
            raise UserError(
                f"a replay buffer needs num_envs >= 1, n_step >= 1 and gamma in [0, 1], got {num_envs}, {n_step} and "
                f"{gamma}."
            )
        if capacity // num_envs <= n_step:
            raise UserError(
                f"data.init_args.experience.capacity: {capacity} over {num_envs} environments is "
                f"{capacity // num_envs} each, too few for sums of {n_step} rewards; write at least "
                f"{num_envs * (n_step + 1)}, and a thousand times that to learn."
            )
        self.gamma, self.n_step = gamma, n_step
        self._ring = TransitionRing(
            capacity, num_envs, observation_shape, observation_dtype, action_shape, action_dtype, folder
        )
        self._layout = {
            "capacity": self._ring.slots,
            "num_envs": num_envs,
            "observations": f"{tuple(observation_shape)} {observation_dtype}",
            "actions": f"{tuple(action_shape)} {action_dtype}",
            "prioritized": priorities is not None,
        }
        self._priorities = PrioritySampler(priorities, self._ring.kind) if priorities else None
        if self._priorities:
            self._ring.touched = self._priorities.touched

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return len(self._ring)

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
        """Take a step of all environments.

        An episode whose next step does not begin with the observation that the last one led to was cut in between.

        Args:
            observation: ``(N, *S)``.
            action: ``(N,)`` or ``(N, A)``, in the policy's units.
            reward: ``(N,)``.
            next_observation: ``(N, *S)``; where an episode has ended its last, and not the first of the new one.
            terminated: ``(N,)``.
            truncated: ``(N,)``.
            valid: ``(N,)``; rows where it is false are left out.
        """
        self._ring.add(observation, action, reward, next_observation, terminated, truncated, valid)

    def cut(self) -> None:
        """The running episodes were cut: their last transitions count as truncated."""
        self._ring.cut()

    def sample(self, updates: int, batch_size: int, progress: float = 0.0) -> Iterator[Transitions]:
        """Draw minibatches by torch's default generator.

        Without priorities they are drawn at once, so nothing may be added before the last of them is taken. With
        priorities each is drawn as it is taken, by the priorities of that moment.

        Args:
            updates: How many minibatches.
            batch_size: B.
            progress: Share of the run that is done, by which beta grows.

        Raises:
            UserError: There is nothing yet.
        """
        if not len(self):
            raise UserError(
                "data.init_args.experience: nothing to draw from yet; write a larger warmup_steps or train_every."
            )
        if self._priorities is None:
            return self._uniform(updates, batch_size)
        return self._prioritized(self._priorities, updates, batch_size, progress)

    def _uniform(self, updates: int, batch_size: int) -> Iterator[Transitions]:
        steps, weight = self._ring.steps, torch.ones(batch_size)
        minibatches = max(1, BYTES_AT_ONCE // (2 * batch_size * self._ring.observations.bytes_each))
        for index in torch.split(self._draw(updates * batch_size), minibatches * batch_size):
            assert steps == self._ring.steps, "nothing may be added while minibatches are taken"
            drawn = self._ring.gather(index, self.gamma, self.n_step)
            if len(index) == batch_size:
                yield Transitions(*drawn, weight, index)
                continue
            columns = [column.view(-1, batch_size, *column.shape[1:]).unbind() for column in (*drawn, index)]
            yield from map(Transitions, *columns[:-1], repeat(weight), columns[-1])

    def _draw(self, number: int) -> Tensor:
        """Slots ``(number,)``, uniform over those with transitions: any slots, without those that have none."""
        parts: list[NDArray[np.int64]] = []
        while number > 0:
            slot = torch.randint(self._ring.used, (number * self._ring.used // len(self) + 16,)).numpy()
            slot = slot[self._ring.kind[slot] != NOTHING][:number]
            parts.append(slot)
            number -= len(slot)
        return torch.from_numpy(np.concatenate(parts))

    def _prioritized(
        self, priorities: PrioritySampler, updates: int, batch_size: int, progress: float
    ) -> Iterator[Transitions]:
        for _ in range(updates):
            index, weight = priorities.draw(batch_size, progress)
            yield Transitions(*self._ring.gather(index, self.gamma, self.n_step), weight, index)

    def update_priorities(self, index: Tensor, error: Tensor) -> None:
        """Make transitions as likely as they are wrong; nothing happens without priorities.

        Args:
            index: ``(B,)``, of `Transitions`; where one occurs twice, its last error counts.
            error: ``(B,)``, of any sign.

        Raises:
            UserError: An error is not finite.
        """
        if self._priorities:
            self._priorities.update(index, error)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "layout": dict(self._layout),
            "ring": self._ring.state_dict(),
            "priorities": self._priorities.state_dict() if self._priorities else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; what is drawn from then on is the same.

        Raises:
            UserError: It is of a buffer with other arguments.
        """
        was, now = state["layout"], self._layout
        if was != now:
            raise UserError(
                f"the checkpoint's replay buffer has {_text(was, now)}, and this run's {_text(now, was)}; write in "
                "data.init_args what the run had that wrote it."
            )
        lost = self._ring.load_state_dict(state["ring"])
        if lost and self._ring.observations.is_new:
            rank_zero_warn(
                f"replay buffer: the {lost} transitions of the checkpoint have their observations in files of the run "
                "that wrote it, and this run has none: its memory begins empty. python cli.py resume RUN_FOLDER goes "
                "on in that run, with its files."
            )
        elif lost:
            rank_zero_warn(
                f"replay buffer: {lost} of {lost + len(self)} transitions were overwritten after the checkpoint was "
                "written; the run goes on with the others, and not exactly as it would have."
            )
        if self._priorities:
            self._priorities.load_state_dict(state["priorities"])


def _text(these: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in these.items() if value != others[name])
