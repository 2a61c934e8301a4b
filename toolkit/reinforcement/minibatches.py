"""From a rollout to the minibatches of several passes over it.

Shape legend: T time steps, N environments, n of them, B valid steps, S an observation's shape, A action dimensions.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.experience import Rollout


class Minibatch(NamedTuple):
    """What an update sees: valid steps only, but a recurrent policy has to look at what lies between them too."""

    observation: Tensor
    """``(B, *S)``; of a recurrent policy ``(T, n, *S)``."""
    action: Tensor
    """``(B,)`` or ``(B, A)``."""
    log_probability: Tensor
    """``(B,)``, of the action when it was taken."""
    value: Tensor
    """``(B,)``, predicted when the action was taken."""
    advantage: Tensor
    """``(B,)``."""
    target: Tensor
    """``(B,)``, what the value should have been."""
    memory: Tensor | None = None
    """``(L, n, H)``, before the first of the T steps; of a recurrent policy."""
    start: Tensor | None = None
    """``(T, n)``, bool, where the memory is cleared; of a recurrent policy."""
    valid: Tensor | None = None
    """``(T, n)``, bool, the B steps among those of the observations; of a recurrent policy."""


def minibatches_of_steps(
    rollout: Rollout, advantage: Tensor, target: Tensor, number: int, epochs: int, normalize: bool
) -> Iterator[Minibatch]:
    """Divide all valid steps anew in each pass; a single minibatch is in order, and not copied.

    Args:
        rollout: T steps of N environments.
        advantage: ``(T, N)``.
        target: ``(T, N)``.
        number: Minibatches of a pass, of equal size but for one step.
        epochs: Passes.
        normalize: Whether each minibatch's advantages are brought to mean 0 and standard deviation 1.

    Raises:
        UserError: There are fewer steps than minibatches.
    """
    fields = (rollout.observation, rollout.action, rollout.log_probability, rollout.value, advantage, target)
    if bool(rollout.valid.all()):
        whole = Minibatch(*(field.flatten(0, 1) for field in fields))
    else:
        whole = Minibatch(*(field[rollout.valid] for field in fields))
    count = len(whole.target)
    _check(count, number, "steps")
    if number == 1:
        yield from itertools.repeat(_normalized(whole) if normalize else whole, epochs)
        return
    for _ in range(epochs):
        for index in torch.randperm(count, device=target.device).tensor_split(number):
            minibatch = Minibatch(*(field[index] for field in whole[:6]))
            yield _normalized(minibatch) if normalize else minibatch


def minibatches_of_sequences(
    rollout: Rollout, advantage: Tensor, target: Tensor, number: int, epochs: int, normalize: bool, memory: Tensor
) -> Iterator[Minibatch]:
    """Divide the environments anew in each pass; each minibatch has all T steps of its own.

    Args:
        rollout: See `minibatches_of_steps`.
        advantage: Likewise.
        target: Likewise.
        number: Minibatches of a pass.
        epochs: Passes.
        normalize: As in `minibatches_of_steps`.
        memory: ``(L, N, H)``, before the rollout.

    Raises:
        UserError: There are fewer environments than minibatches.
    """
    N = rollout.valid.shape[1]
    _check(N, number, "environments")
    for _ in range(epochs):
        for index in torch.randperm(N, device=target.device).tensor_split(number):
            valid = rollout.valid[:, index]
            steps = (rollout.action, rollout.log_probability, rollout.value, advantage, target)
            flat = (field[:, index][valid] for field in steps)
            minibatch = Minibatch(rollout.observation[:, index], *flat)
            minibatch = minibatch._replace(memory=memory[:, index], start=rollout.start[:, index], valid=valid)
            yield _normalized(minibatch) if normalize else minibatch


def _normalized(minibatch: Minibatch) -> Minibatch:
    advantage = minibatch.advantage
    if len(advantage) == 1:  # it has no standard deviation
        return minibatch
    return minibatch._replace(advantage=(advantage - advantage.mean()) / (advantage.std() + 1e-8))


def _check(count: int, number: int, what: str) -> None:
    if count < number:
        raise UserError(
            f"model.init_args.minibatches: {count} {what} of a rollout cannot be divided into {number} minibatches; "
            f"write at most {count}, or raise data.init_args.num_envs."
        )
