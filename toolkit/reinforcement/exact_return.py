"""Returns without sampling, where an environment tells its probabilities. Shape legend: S states, K actions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.errors import UserError


class TransitionTable(NamedTuple):
    """A finite decision process; float64."""

    reward: Tensor
    """``(S, K)``, expected."""
    transition: Tensor
    """``(S, K, S)``, the probability that the episode goes on in a state; sums to less than 1 where it may end."""
    initial: Tensor
    """``(S,)``, the probability that an episode begins in a state."""

    @classmethod
    def of(cls, environment: Any) -> "TransitionTable":
        """Read Gymnasium's toy text environments: ``P[state][action]``, ``(probability, next, reward, terminated)``.

        Raises:
            UserError: The environment does not tell.
        """
        told = environment.unwrapped
        if not (hasattr(told, "P") and hasattr(told, "initial_state_distrib")):
            raise UserError(
                f"{type(told).__name__}: it has no table of transitions (P) and of first states "
                "(initial_state_distrib); FrozenLake-v1, Taxi-v4 and CliffWalking-v1 have."
            )
        shape = (len(told.P), len(told.P[0]))
        reward = torch.zeros(shape, dtype=torch.float64)
        transition = torch.zeros(*shape, shape[0], dtype=torch.float64)
        for state, actions in told.P.items():
            for action, outcomes in actions.items():
                for probability, following, gained, terminated in outcomes:
                    reward[state, action] += probability * float(gained)
                    transition[state, action, int(following)] += 0.0 if terminated else probability
        return cls(reward, transition, torch.as_tensor(told.initial_state_distrib, dtype=torch.float64))

    def backup(self, value: Tensor, gamma: float) -> Tensor:
        """``Q(s, a) = r(s, a) + gamma sum_s' p(s' | s, a) V(s')``, from ``(S,)`` to ``(S, K)``."""
        return self.reward + gamma * self.transition @ value


def greedy_policy(action_value: Tensor) -> Tensor:
    """The first of the best actions, ``(S, K)`` to ``(S, K)``: probabilities of actions in states.

    >>> greedy_policy(torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, 0.0]])).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    return torch.eye(action_value.shape[1], dtype=torch.float64)[action_value.argmax(dim=1)]


def uniform_policy(table: TransitionTable) -> Tensor:
    """All actions alike: ``(S, K)``."""
    return torch.full_like(table.reward, 1 / table.reward.shape[1])


def exact_return(table: TransitionTable, policy: Tensor, horizon: int, gamma: float = 1.0) -> float:
    """The expected return of an episode that is cut after ``horizon`` steps, by dynamic programming over steps left.

    >>> one = TransitionTable(*(torch.ones(shape, dtype=torch.float64) for shape in ((1, 1), (1, 1, 1), (1,))))
    >>> exact_return(one, uniform_policy(one), horizon=3, gamma=0.5)
    1.75

    Args:
        table: The process.
        policy: ``(S, K)``, probabilities of actions in states, the same at every step.
        horizon: The time limit.
        gamma: Discount of a step; 1 for what evaluation reports.
    """
    value = torch.zeros_like(table.initial)
    for _ in range(horizon):
        value = (policy * table.backup(value, gamma)).sum(dim=1)
    return float(table.initial @ value)


def optimal_return(table: TransitionTable, horizon: int, gamma: float = 1.0) -> float:
    """What no policy exceeds, though it knew the steps left; arguments as in `exact_return`."""
    value = torch.zeros_like(table.initial)
    for _ in range(horizon):
        value = table.backup(value, gamma).amax(dim=1)
    return float(table.initial @ value)


def value_iteration(table: TransitionTable, gamma: float, tolerance: float = 1e-10) -> Tensor:
    """The optimal action values without a time limit, ``(S, K)``.

    Bellman, "Dynamic Programming", 1957. Iterates until no value moves by more than ``tolerance``; with ``gamma`` 1
    that end comes if every optimal episode terminates.
    """
    action_value = torch.zeros_like(table.reward)
    while True:
        following = table.backup(action_value.amax(dim=1), gamma)
        if float((following - action_value).abs().max()) <= tolerance:
            return following
        action_value = following
