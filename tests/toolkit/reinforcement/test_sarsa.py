"""SARSA: what follows is worth the action that will be taken, and that is the action that is taken."""

from pathlib import Path

import pytest
import torch

from tests.toolkit.reinforcement.decision_process import CHAIN, LEDGE, Processes, fit
from tests.toolkit.reinforcement.test_tabular import agent
from toolkit.experience import VectorStep
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.sarsa import SARSA
from toolkit.reinforcement.tabular import LearningRate


def explorer(epsilon: float, gamma: float = 1.0, rate: LearningRate | None = None) -> SARSA:
    net = ActionTable(3, 2)
    return SARSA(net, rate, Exploration(epsilon, epsilon), gamma=gamma, num_actions=2, total_steps=8000)


def test_update_by_hand() -> None:
    """The action that was chosen next is worth 4, the best one 8; gamma and alpha are 0.5."""
    task = agent(SARSA, [[0.0, 0.0], [0.0, 0.0], [4.0, 8.0]])
    task.epsilon_greedy = lambda observation: torch.tensor([0, 1, 0, 0])  # type: ignore[method-assign]
    no, yes = False, True
    step = VectorStep(
        observation=torch.tensor([0, 0, 1, 1]),
        action=torch.tensor([0, 1, 0, 1]),
        reward=torch.ones(4),
        next_observation=torch.tensor([2, 2, 2, 2]),
        terminated=torch.tensor([no, no, no, yes]),
        truncated=torch.tensor([no, no, yes, no]),
        valid=torch.tensor([yes] * 4),
    )
    source = Processes(CHAIN, 4, 1)
    source.steps = lambda policy: iter([step])  # type: ignore[method-assign, assignment, return-value]
    fit(task, source, items=1)
    # 0.5 * (1 + 0.5 * 4), 0.5 * (1 + 0.5 * 8), the first again though cut, and 0.5 * 1 behind the end
    assert task.net.value.tolist() == [[1.5, 2.5], [1.5, 0.5], [4.0, 8.0]]


def test_action_of_the_target_is_taken_next_also_in_the_next_item() -> None:
    task, chosen = explorer(1.0), []
    source = Processes(CHAIN, num_envs=5, steps=7)
    inner = task.next_value

    def watched(step: VectorStep) -> torch.Tensor:
        value = inner(step)
        assert task.next_action is not None
        chosen.append((task.next_action.clone(), step.terminated | step.truncated))
        return value

    task.next_value = watched  # type: ignore[method-assign]
    fit(task, source, items=3)
    assert len(source.acted) == len(chosen) == 21
    for (promised, ended), taken in zip(chosen, source.acted[1:], strict=False):
        assert torch.equal(promised[~ended], taken[~ended])


def test_values_are_those_of_the_policy_that_explores() -> None:
    """Of the uniform policy, with gamma 0.5, by the linear equations v = (q0 + q1) / 2."""
    task = explorer(1.0, gamma=0.5, rate=LearningRate(1.0, exponent=0.7))
    fit(task, Processes(CHAIN, num_envs=16, steps=400), items=10)
    reward, following = torch.tensor(CHAIN.reward), torch.tensor(CHAIN.following)
    goes_on = (~torch.tensor(CHAIN.terminates)).float()
    transition = torch.zeros(3, 2, 3).scatter_(2, following[..., None], goes_on[..., None])
    value = torch.linalg.solve(torch.eye(3) - 0.5 * transition.mean(dim=1), reward.mean(dim=1))
    torch.testing.assert_close(task.net.value.data, reward + 0.5 * transition @ value, rtol=0, atol=0.02)


def test_takes_the_detour_because_it_stumbles() -> None:
    """The ledge costs 1 + 0.9 * 1 + 0.1 * 100 = 11.9 with a tenth of the actions wrong, the detour 3."""
    task = explorer(0.2, rate=LearningRate(0.5, end=0.0))
    fit(task, Processes(LEDGE, num_envs=4, steps=200), items=10)
    value = task.net.value.data
    assert float(value[0, 0]) == -3.0
    assert value[1].tolist() == pytest.approx([-1.0, -100.0])
    assert float(value[0, 1]) < -3.0
    assert task.greedy(torch.tensor([0]), torch.tensor([False])).item() == 0


def test_next_action_is_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = explorer(1.0)
    trainer = fit(task, Processes(CHAIN, num_envs=9, steps=3), items=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = explorer(1.0)
    fit(resumed, Processes(CHAIN, num_envs=9, steps=3), items=2, checkpoint=tmp_path / "last.ckpt")
    assert task.next_action is not None
    assert resumed.next_action is not None
    assert torch.equal(resumed.next_action, task.next_action)
    observation = torch.zeros(9, dtype=torch.int64)
    assert torch.equal(resumed.act(observation, observation.bool()).action, task.next_action)
    anew = resumed.act(observation, ~observation.bool()).action  # episodes that begin have chosen nothing yet
    assert anew.shape == (9,)
    fewer = observation[:4]
    assert resumed.act(fewer, ~fewer.bool()).action.shape == (4,)
    monkeypatch.setattr(SARSA, "device", torch.device("meta"))  # another one than the checkpoint was read to
    resumed.on_fit_start()
    assert resumed.next_action.is_meta
