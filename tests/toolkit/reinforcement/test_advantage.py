"""Generalised advantages against values by hand, and against the recursion as it is written."""

import pytest
import torch
from torch import Tensor

from toolkit.reinforcement.advantage import generalized_advantage

NO = torch.zeros(4, 1, dtype=torch.bool)


def column(*values: float) -> Tensor:
    return torch.tensor([*map(float, values)])[:, None]


def naive(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    advantage, following = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + gamma * next_value[t] * ~terminated[t] - value[t]
        following = delta + gamma * gae_lambda * following * ~(terminated[t] | truncated[t])
        advantage[t] = following
    return advantage


def test_by_hand() -> None:
    """gamma 1/2, lambda 1/2: deltas 1 + 1 - 1, 2 + 2 - 2, 3 + 0 - 4 (terminated), 4 + 4 - 6 (truncated)."""
    given = generalized_advantage(
        column(1, 2, 3, 4), column(1, 2, 4, 6), column(2, 4, 100, 8),
        terminated=column(0, 0, 1, 0).bool(), truncated=column(0, 0, 0, 1).bool(), gamma=0.5, gae_lambda=0.5,
    )  # fmt: skip
    assert given.flatten().tolist() == [1 + (2 - 1 / 4) / 4, 2 - 1 / 4, -1, 2]


def test_extremes_of_lambda() -> None:
    reward, value = column(1, 2, 3, 4), column(5, 6, 7, 8)
    next_value = torch.cat([value[1:], column(9)])
    delta = generalized_advantage(reward, value, next_value, NO, NO, gamma=0.9, gae_lambda=0.0)
    torch.testing.assert_close(delta, reward + 0.9 * next_value - value)
    total = generalized_advantage(reward, value, next_value, NO, NO, gamma=1.0, gae_lambda=1.0)
    torch.testing.assert_close(total + value, column(19, 18, 16, 13))  # the rewards that follow, and 9


@pytest.mark.parametrize(("steps", "count"), [(1, 3), (2, 1), (7, 4), (128, 8), (2048, 2)])
def test_equals_the_recursion(steps: int, count: int) -> None:
    reward, value, next_value = torch.randn(3, steps, count, dtype=torch.float64)
    terminated, truncated = torch.rand(2, steps, count) < 0.05
    arguments = (reward, value, next_value, terminated, truncated & ~terminated, 0.99, 0.95)
    torch.testing.assert_close(generalized_advantage(*arguments), naive(*arguments), rtol=0, atol=1e-12)
    single = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    torch.testing.assert_close(generalized_advantage(*single).double(), naive(*arguments), rtol=1e-4, atol=1e-4)


def test_nothing_crosses_an_episode_s_end() -> None:
    """What stands in a step that only reset its environment reaches no other step."""
    reward, value, next_value = torch.randn(3, 8, 1)
    ended = torch.zeros(8, 1, dtype=torch.bool)
    ended[3] = True
    for terminated, truncated in ((ended, ended & False), (ended & False, ended)):
        before = generalized_advantage(reward, value, next_value, terminated, truncated, 0.9, 0.9)
        junk = reward.clone()
        junk[4] = 1e6
        after = generalized_advantage(junk, value, next_value, terminated, truncated, 0.9, 0.9)
        kept = torch.arange(8) != 4
        torch.testing.assert_close(after[kept], before[kept])


def test_arguments_stay_as_they_are() -> None:
    given = [torch.ones(4, 1) for _ in range(3)]
    generalized_advantage(*given, NO, NO, 0.9, 0.9)
    assert all(bool((tensor == 1).all()) for tensor in given)
    assert not NO.any()
