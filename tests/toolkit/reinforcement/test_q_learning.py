"""Q-learning: what follows is worth the best action, whatever the agent will do."""

import torch

from tests.toolkit.reinforcement.decision_process import CHAIN, LEDGE, Processes, fit
from tests.toolkit.reinforcement.test_tabular import agent
from toolkit.experience import VectorStep
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.q_learning import QLearning
from toolkit.reinforcement.tabular import LearningRate


def test_update_by_hand() -> None:
    """One environment each that goes on, is cut, terminates, and both at once; gamma and alpha are 0.5."""
    task = agent(QLearning, [[0.0, 0.0], [0.0, 0.0], [4.0, 8.0]])
    no, yes = [False] * 4, [True] * 4
    step = VectorStep(
        observation=torch.tensor([0, 0, 1, 1]),
        action=torch.tensor([0, 1, 0, 1]),
        reward=torch.ones(4),
        next_observation=torch.tensor([2, 2, 2, 2]),
        terminated=torch.tensor([*no[:2], *yes[:2]]),
        truncated=torch.tensor([False, True, False, True]),
        valid=torch.tensor(yes),
    )
    source = Processes(CHAIN, 4, 1)
    source.steps = lambda policy: iter([step])  # type: ignore[method-assign, assignment, return-value]
    fit(task, source, items=1)
    # 0.5 * (1 + 0.5 * 8), and 0.5 * 1 behind an end
    assert task.net.value.tolist() == [[2.5, 2.5], [0.5, 0.5], [4.0, 8.0]]


def test_takes_the_ledge_though_it_stumbles() -> None:
    task = QLearning(
        ActionTable(2, 2), LearningRate(0.5), Exploration(0.2, 0.2), gamma=1.0, num_actions=2, total_steps=8000
    )
    fit(task, Processes(LEDGE, num_envs=4, steps=200), items=10)
    torch.testing.assert_close(task.net.value.data, torch.tensor([[-3.0, -2.0], [-1.0, -100.0]]))
