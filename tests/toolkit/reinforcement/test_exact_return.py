"""Exact returns against hand-computed values, episodes that were played, and known optima."""

import gymnasium
import numpy as np
import pytest
import torch

from toolkit.errors import UserError
from toolkit.reinforcement.exact_return import (
    TransitionTable,
    exact_return,
    greedy_policy,
    optimal_return,
    uniform_policy,
    value_iteration,
)

TWO_STATES = TransitionTable(
    reward=torch.tensor([[1.0, 0.0], [0.0, 5.0]], dtype=torch.float64),
    transition=torch.tensor([[[1.0, 0.0], [0.0, 0.8]], [[0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64),
    initial=torch.tensor([0.5, 0.5], dtype=torch.float64),
)
"""In the first state action 0 earns 1 and stays; action 1 earns nothing and leads to the second, or ends with 0.2. There
action 0 stays for nothing, and action 1 earns 5 and ends. Episodes begin in both alike."""


@pytest.mark.parametrize(
    ("actions", "horizon", "gamma", "value"),
    [
        ([0, 0], 3, 1.0, 0.5 * 3),
        ([0, 1], 3, 0.5, 0.5 * (1 + 0.5 + 0.25) + 0.5 * 5),
        ([1, 1], 1, 1.0, 0.5 * 5),  # the time is over before the second state earns
        ([1, 1], 2, 1.0, 0.5 * (0.8 * 5) + 0.5 * 5),
        ([1, 1], 9, 0.5, 0.5 * (0.5 * 0.8 * 5) + 0.5 * 5),
    ],
)
def test_two_states_by_hand(actions: list[int], horizon: int, gamma: float, value: float) -> None:
    policy = torch.eye(2, dtype=torch.float64)[actions]
    assert exact_return(TWO_STATES, policy, horizon, gamma) == pytest.approx(value)


def test_random_policy_by_hand() -> None:
    """Two steps: what one step earns on average, then two."""
    one_left = [0.5 * 1, 0.5 * 5]
    two_left = [0.5 * (1 + one_left[0]) + 0.5 * 0.8 * one_left[1], 0.5 * one_left[1] + 0.5 * 5]
    assert exact_return(TWO_STATES, uniform_policy(TWO_STATES), 2) == pytest.approx(sum(two_left) / 2)


def test_optimum_with_a_time_limit_knows_the_steps_left() -> None:
    """With seven steps left the first state waits for five, and then risks to leave: 5 + 0.8 * 5."""
    values = {1: [1, 5], 2: [4, 5], 3: [5, 5], 7: [9, 5]}
    for horizon, value in values.items():
        assert optimal_return(TWO_STATES, horizon) == pytest.approx(sum(value) / 2)


def test_value_iteration_by_hand() -> None:
    """With gamma 0.5 waiting for ever earns 2, leaving 0.5 * 0.8 * 5 = 2 as well; with more patience, waiting is better."""
    assert value_iteration(TWO_STATES, gamma=0.5).flatten().tolist() == pytest.approx([2, 2, 2.5, 5], abs=1e-6)
    patient = value_iteration(TWO_STATES, gamma=0.9)
    assert patient.flatten().tolist() == pytest.approx([10, 3.6, 4.5, 5], abs=1e-6)
    assert greedy_policy(patient).tolist() == [[1, 0], [0, 1]]


def played(name: str, policy: torch.Tensor, episodes: int) -> np.ndarray:
    environment = gymnasium.make(name)
    actions, returns = policy.argmax(dim=1).tolist(), []
    for episode in range(episodes):
        state, _ = environment.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            state, reward, terminated, truncated, _ = environment.step(actions[state])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    environment.close()
    return np.array(returns)


@pytest.mark.parametrize(("gamma", "name"), [(0.9, "FrozenLake-v1"), (0.99, "FrozenLake-v1"), (0.99, "Taxi-v4")])
def test_agrees_with_episodes_that_are_played(gamma: float, name: str) -> None:
    environment = gymnasium.make(name)
    table = TransitionTable.of(environment)
    limit = environment.spec.max_episode_steps
    environment.close()
    policy = greedy_policy(value_iteration(table, gamma))
    returns = played(name, policy, 400)
    assert abs(returns.mean() - exact_return(table, policy, limit)) < 4 * returns.std() / 20


@pytest.mark.parametrize(
    ("name", "limit", "optimum", "best", "random"),
    [
        # the best fixed policy of FrozenLake falls short of one that knows the steps left
        ("FrozenLake-v1", 100, 0.7402, 0.7442, 0.0139),
        ("Taxi-v4", 200, 7.93, 7.93, -771.1),
        ("CliffWalking-v1", 1000, -13.0, -13.0, -9512.1),
    ],
)
def test_known_optima(name: str, limit: int, optimum: float, best: float, random: float) -> None:
    environment = gymnasium.make(name)
    table = TransitionTable.of(environment)
    environment.close()
    goes_on = table.transition.sum(dim=2)
    assert bool((goes_on <= 1 + 1e-9).all())
    assert float(table.initial.sum()) == pytest.approx(1)
    assert exact_return(table, greedy_policy(value_iteration(table, 0.99)), limit) == pytest.approx(optimum, abs=1e-4)
    assert optimal_return(table, limit) == pytest.approx(best, abs=1e-4)
    assert exact_return(table, uniform_policy(table), limit) == pytest.approx(random, rel=1e-2)


def test_environment_without_a_table_is_refused() -> None:
    environment = gymnasium.make("CartPole-v1")
    with pytest.raises(UserError, match="CartPoleEnv: it has no table of transitions"):
        TransitionTable.of(environment)
    environment.close()
