"""What tabular agents share: the update worked out by hand, exploration, and the known values of a chain."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toolkit.reinforcement.decision_process import CHAIN, CHAIN_OPTIMAL, Processes, fit
from toolkit.errors import UserError
from toolkit.experience import VectorStep
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.q_learning import QLearning
from toolkit.reinforcement.sarsa import SARSA
from toolkit.reinforcement.tabular import LearningRate, TabularTask

BOTH = [QLearning, SARSA]


def agent(kind: type[TabularTask], rows: list[list[float]], alpha: float = 0.5, **options: Any) -> TabularTask:
    net = ActionTable(len(rows), len(rows[0]))
    net.value.data = torch.tensor(rows)
    defaults = {"learning_rate": LearningRate(alpha), "exploration": Exploration(0.0, 0.0), "gamma": 0.5}
    return kind(net, **(defaults | options), num_actions=len(rows[0]), total_steps=1000)


def step(states: list[int], actions: list[int], valid: list[bool] | None = None) -> VectorStep:
    count = len(states)
    nowhere, never = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    allowed = torch.tensor(valid) if valid else ~never
    return VectorStep(torch.tensor(states), torch.tensor(actions), nowhere.float(), nowhere, never, never, allowed)


# The update -----------------------------------------------------------------------------------------------------------


def test_value_moves_by_alpha_times_its_error() -> None:
    task = agent(QLearning, [[1.0, 2.0], [3.0, 4.0]], alpha=0.25)
    error = task.move_values(step([0, 1], [1, 0]), torch.tensor([6.0, 1.0]))
    assert error.tolist() == [4.0, -2.0]
    assert task.net.value.tolist() == [[1.0, 3.0], [2.5, 4.0]]
    assert task.visits.tolist() == [[0, 1], [1, 0]]


def test_several_at_the_same_pair_are_the_mean_over_the_orders_of_single_updates() -> None:
    targets = torch.tensor([8.0, 2.0, 5.0])
    task = agent(QLearning, [[1.0, 0.0]], alpha=0.25)
    task.move_values(step([0, 0, 0], [0, 0, 0]), targets)
    means = []
    for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        single = agent(QLearning, [[1.0, 0.0]], alpha=0.25)
        for number in order:
            single.move_values(step([0], [0]), targets[number : number + 1])
        means.append(single.net.value[0, 0].item())
    assert task.net.value[0, 0].item() == pytest.approx(sum(means) / 6)
    assert int(task.visits[0, 0]) == 3


def test_order_of_the_environments_does_not_matter() -> None:
    states, actions, targets = torch.randint(3, (50,)), torch.randint(2, (50,)), torch.randn(50)
    tables = []
    for order in (torch.arange(50), torch.randperm(50)):
        task = agent(QLearning, [[0.0, 0.0]] * 3, learning_rate=LearningRate(1.0, exponent=0.6))
        task.move_values(step(states[order].tolist(), actions[order].tolist()), targets[order])
        tables.append(task.net.value)
    torch.testing.assert_close(*tables)


def test_a_step_that_only_reset_is_ignored() -> None:
    task = agent(QLearning, [[0.0], [0.0]])
    error = task.move_values(step([0, 0, 1], [0, 0, 0], [True, False, False]), torch.tensor([2.0, 1e6, 1e6]))
    assert error.tolist() == [2.0]
    assert task.net.value.tolist() == [[1.0], [0.0]]
    assert task.visits.tolist() == [[1], [0]]
    assert len(task.move_values(step([0], [0], [False]), torch.tensor([1e6]))) == 0


def test_visits_make_a_value_the_average_of_its_targets() -> None:
    task = agent(QLearning, [[7.0]], learning_rate=LearningRate(1.0, exponent=1.0))
    for target in (4.0, 1.0, 10.0):
        task.move_values(step([0], [0]), torch.tensor([target]))
    assert task.net.value.item() == pytest.approx(5.0)


def test_learning_rate_falls_with_the_run() -> None:
    rate = LearningRate(0.4, end=0.0)
    assert [round(rate.base(progress), 3) for progress in (0.0, 0.5, 1.0)] == [0.4, 0.2, 0.0]
    assert LearningRate(0.4).base(1.0) == 0.4
    task = agent(QLearning, [[0.0]], learning_rate=rate)
    task.counts.steps = 500  # of 1,000
    task.move_values(step([0], [0]), torch.tensor([1.0]))
    assert task.net.value.item() == pytest.approx(0.2)


def test_ranks_learn_from_each_other_s_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks make the update that one would with the environments of both."""
    parts = [(step([0, 1], [0, 1]), torch.tensor([1.0, 2.0])), (step([0, 1], [0, 0], [True, False]), torch.ones(2) * 3)]
    together = VectorStep(*(torch.cat(pair) for pair in zip(parts[0][0], parts[1][0], strict=True)))
    one = agent(QLearning, [[0.0, 0.0]] * 2)
    one.move_values(together, torch.cat([target for _, target in parts]))
    rows: list[Tensor] = []

    class Two:
        world_size = 2

    for _ in range(2):  # at first only to see what each rank sends
        gathered = torch.stack(rows) if rows else None
        tables = []
        for part, target in parts:
            rank = agent(QLearning, [[0.0, 0.0]] * 2)
            rank._trainer = Two()  # type: ignore[assignment]
            monkeypatch.setattr(type(rank), "trainer", Two())
            sent: list[Tensor] = []

            def all_gather(row: Tensor, known: Tensor | None = gathered, sent: list[Tensor] = sent) -> Tensor:
                sent.append(row)
                return torch.stack([row, row]) if known is None else known

            monkeypatch.setattr(rank, "all_gather", all_gather)
            rank.move_values(part, target)
            rows += sent if gathered is None else []
            tables.append(rank.net.value)
    torch.testing.assert_close(tables[0], one.net.value)
    assert torch.equal(tables[0], tables[1])


# Acting ---------------------------------------------------------------------------------------------------------------


def test_ties_are_broken_by_chance_in_exploring_and_by_the_first_in_playing() -> None:
    task = agent(QLearning, [[1.0, 2.0, 2.0]])
    states = torch.zeros(3000, dtype=torch.int64)
    counts = task.act(states, states.bool()).action.bincount(minlength=3).tolist()
    assert counts[0] == 0
    assert counts[1] == pytest.approx(1500, abs=5 * 27)  # five standard deviations
    assert task.greedy(states[:2], states[:2].bool()).tolist() == [1, 1]


def test_epsilon_is_the_share_of_blind_actions() -> None:
    task = agent(QLearning, [[0.0, 0.0, 1.0, 0.0]], exploration=Exploration(0.4, 0.4))
    states = torch.zeros(10_000, dtype=torch.int64)
    counts = task.act(states, states.bool()).action.bincount(minlength=4) / 10_000
    torch.testing.assert_close(counts, torch.tensor([0.1, 0.1, 0.7, 0.1]), rtol=0, atol=0.02)


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("resets", [False, True])
def test_finds_the_optimal_values_of_a_chain(kind: type[TabularTask], resets: bool) -> None:
    """A cut is no end, and an end is no cut; SARSA explores ever less."""
    net = ActionTable(3, 2)
    task = kind(net, LearningRate(0.5), Exploration(1.0, 0.0, fraction=0.5), gamma=0.5, num_actions=2, total_steps=4000)
    trainer = fit(task, Processes(CHAIN, num_envs=4, steps=100, resets=resets), items=10)
    optimal = torch.tensor(CHAIN_OPTIMAL)
    best, values = optimal.amax(dim=1), net.value.detach()
    torch.testing.assert_close(values.amax(dim=1), best, rtol=0, atol=0.01)
    if kind is QLearning:
        torch.testing.assert_close(values, optimal, rtol=0, atol=0.01)
    assert task.greedy(torch.arange(3), torch.zeros(3, dtype=torch.bool)).tolist() == [0, 1, 1]
    assert trainer.global_step == 10
    assert int(task.grad_updates) == 1000
    assert int(task.env_steps) == 4000
    assert int(task.visits.sum()) == (4000 if not resets else 3500)


# What is refused ------------------------------------------------------------------------------------------------------


def test_arguments_out_of_range_are_refused() -> None:
    for wrong in ({"start": 0.0}, {"start": 1.5}, {"end": -0.1}, {"exponent": 1.1}):
        with pytest.raises(UserError, match="learning_rate: need start in"):
            LearningRate(**wrong)


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(UserError, match="discrete"):
        QLearning(ActionTable(2, 2), num_actions=None, total_steps=10)
