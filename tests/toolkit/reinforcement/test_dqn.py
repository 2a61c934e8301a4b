"""Deep Q-learning and Rainbow's parts: targets worked out by hand, and the known values of a chain."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.experience import Episodes, Policy, ReplaySource, Transitions
from toolkit.optim.warmup_linear import WarmupLinear
from toolkit.reinforcement.dqn import DQN
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.q_network import QNetwork

GAMMA = 0.5
OPTIMAL = [[0.4, 0.25], [0.45, 0.5], [0.7, 1.0]]
"""Of the chain. Waiting for ever is worth 0.2 / (1 - 0.5) = 0.4, though each wait is cut; walking from the first place
0.5 * 0.5 * 1. Without a value behind a cut, waiting would be worth 0.2; with one behind the end, the last step more."""


class Chain(ReplaySource):
    """Three places in a row. Action 1 walks on; from the last place it earns 1 and terminates. Action 0 waits, earns
    0.2, and the episode is cut. Everything that happened is kept.

    Args:
        steps: Environment steps of an item; an update after each, and none before the first 32.
    """

    def __init__(self, steps: int = 32, batch_size: int = 32) -> None:
        self.steps, self.batch_size = steps, batch_size
        self.kept: list[tuple[int, int, float, int, float]] = []
        self.place, self.ended = 0, 0
        self.errors: list[Tensor] = []

    def __len__(self) -> int:
        return self.steps

    def finished(self) -> Episodes:
        count, self.ended = self.ended, 0
        return Episodes(torch.ones(count), torch.ones(count), torch.arange(count))

    def minibatches(self, policy: Policy) -> Iterator[Transitions]:
        for _ in range(self.steps):
            action = int(policy.act(torch.eye(3)[self.place][None], torch.tensor([False])).action)
            policy.count_steps(1)
            walks, ends = action == 1, action == 1 and self.place == 2
            following = min(self.place + walks, 2)
            self.kept.append((self.place, action, float(ends) if walks else 0.2, following, 0.0 if ends else GAMMA))
            self.ended += int(ends or not walks)
            self.place = int(torch.randint(3, ())) if ends or not walks else following
            if len(self.kept) > 32:
                yield self.sample()

    def sample(self) -> Transitions:
        index = torch.randint(len(self.kept), (self.batch_size,))
        place, action, reward, following, discount = (
            torch.tensor(column) for column in zip(*(self.kept[i] for i in index.tolist()), strict=True)
        )
        return Transitions(
            torch.eye(3)[place], action, reward, torch.eye(3)[following], discount, torch.ones(len(index)), index
        )

    def update_priorities(self, index: Tensor, error: Tensor) -> None:
        assert not error.requires_grad
        assert error.shape == index.shape
        self.errors.append(error)


class Stream:
    """The same source again and again."""

    def __init__(self, source: Chain, items: int) -> None:
        self.source, self.items = source, items

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[Chain]:
        return iter([self.source] * self.items)


def network(**options: Any) -> QNetwork:
    """Without hidden layers: of numbered places it is a table."""
    return QNetwork((3,), 2, MLPEncoder([]), value_range=(0.0, 1.0), **options)


def agent(net: QNetwork | None = None, **options: Any) -> DQN:
    defaults = {"gamma": GAMMA, "num_actions": 2, "total_steps": 1000, "target_update_every": 10,
                "exploration": Exploration(1.0, 1.0)}  # fmt: skip
    return DQN(net or network(), **(defaults | options))


def fit(task: DQN, source: Chain, items: int, checkpoint: Path | None = None, **options: Any) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
           "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0} | options,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, Stream(source, items), Stream(source, 0), ckpt_path=checkpoint, weights_only=True)
    return trainer


def transitions(next_observation: Tensor, discount: list[float], reward: list[float], action: list[int]) -> Transitions:
    count = len(action)
    return Transitions(
        torch.eye(3)[:count], torch.tensor(action), torch.tensor(reward), next_observation, torch.tensor(discount),
        torch.ones(count), torch.arange(count),
    )  # fmt: skip


def table(rows: list[list[float]], **options: Any) -> QNetwork:
    net = network(**options)
    assert isinstance(net.actions, nn.Linear)
    with torch.no_grad():
        net.actions.weight.copy_(torch.tensor(rows).T)
        net.actions.bias.zero_()
    return net


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "options"),
    [
        ({}, {}),
        ({}, {"double": True}),
        ({}, {"tau": 0.1, "target_update_every": 1}),
        ({"dueling": True}, {}),
        ({"noisy": True}, {}),
        ({"atoms": 21}, {}),
        ({"dueling": True, "noisy": True, "atoms": 21}, {"double": True}),
    ],
    ids=["dqn", "double", "polyak", "dueling", "noisy", "atoms", "rainbow"],
)
def test_finds_the_optimal_values_of_a_chain(net: dict[str, Any], options: dict[str, Any]) -> None:
    """Waiting is right in the first place only. A noisy network, once it is sure, seldom tries the other action."""
    task = agent(network(**net), optimizer=lambda p: torch.optim.Adam(p, lr=0.03), **options)
    source = Chain()
    fit(task, source, items=30)
    task.eval()
    with torch.no_grad():
        values, optimal = task.net(torch.eye(3)), torch.tensor(OPTIMAL)
    if task.net.noisy:
        values, optimal = values.amax(dim=1), optimal.amax(dim=1)
    torch.testing.assert_close(values, optimal, rtol=0, atol=0.07 if task.net.noisy else 0.03)
    assert task.greedy(torch.eye(3), torch.zeros(3, dtype=torch.bool)).tolist() == [0, 1, 1]
    assert int(task.grad_updates) == len(source.errors) == 30 * 32 - 32
    assert float(source.errors[-1].abs().mean()) < float(source.errors[0].abs().mean())


def test_resumed_run_is_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    """The target is in the checkpoint, and goes on to move at the same updates."""

    class Halves(Chain):
        def minibatches(self, policy: Policy) -> Iterator[Transitions]:
            torch.manual_seed(len(self.kept))
            return super().minibatches(policy)

    def half(seed: int) -> DQN:
        torch.manual_seed(seed)
        return agent(target_update_every=17)

    whole, first, source = half(0), half(0), Halves()
    fit(whole, Halves(), items=4, max_epochs=2)
    trainer = fit(first, source, items=4)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = half(1)
    assert not torch.equal(next(second.target.parameters()), next(first.target.parameters()))
    fit(second, source, items=4, max_epochs=2, checkpoint=tmp_path / "half.ckpt")
    for (name, ours), theirs in zip(second.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)
    assert int(second.grad_updates) == int(whole.grad_updates) == 8 * 32 - 32


def test_schedules_follow_the_environment_also_before_the_first_update() -> None:
    """Torch warns of a schedule that moves before its optimizer did; here that is right."""
    task = agent(scheduler=lambda optimizer: WarmupLinear(optimizer, warmup=0, total_steps=4))
    trainer = fit(task, Chain(), items=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4 / 2)


# Targets --------------------------------------------------------------------------------------------------------------

ONLINE = [[0.0, 1.0], [0.3, 0.2], [0.0, 0.0]]
SLOW = [[0.5, 0.1], [0.6, 0.9], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("double", "targets"),
    [
        (False, [0.1 + 0.5 * 0.5, 0.2 + 0.25 * 0.9, 0.7]),  # the target's own maxima, 0.5 and 0.9
        (True, [0.1 + 0.5 * 0.1, 0.2 + 0.25 * 0.6, 0.7]),  # its values of the actions 1 and 0 that Q prefers
    ],
)
def test_target_by_hand(double: bool, targets: list[float]) -> None:
    """Three transitions: one step, two steps (gamma squared), and one that terminates."""
    task = agent(table(ONLINE), double=double)
    task.target.load_state_dict(table(SLOW).state_dict())
    batch = transitions(torch.eye(3), [0.5, 0.25, 0.0], [0.1, 0.2, 0.7], [1, 0, 1])
    output, slope, error, value = task.predict_return(batch)
    chosen = torch.tensor([1.0, 0.3, 0.0])
    difference = chosen - torch.tensor(targets)
    torch.testing.assert_close(output.detach(), chosen)
    torch.testing.assert_close(value, chosen)
    torch.testing.assert_close(error, difference)
    torch.testing.assert_close(slope, difference)  # all within 1, where Huber's loss is the square
    torch.testing.assert_close(task.loss(error), difference**2 / 2)


def test_errors_beyond_one_pull_with_the_same_force() -> None:
    task = agent(table([[0.0, 0.0]] * 3))
    batch = transitions(torch.eye(3), [0.0] * 3, [5.0, -9.0, 0.5], [0, 0, 0])
    output, slope, error, _ = task.predict_return(batch)
    torch.testing.assert_close(task.loss(error), torch.tensor([4.5, 8.5, 0.125]))
    (gradient,) = torch.autograd.grad(output, task.net.actions.weight, slope)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0, -0.5], [0.0, 0.0, 0.0]]))


def test_double_with_atoms_by_hand() -> None:
    """Q prefers action 1, whose distribution in the target is all at 0.5; it shrinks to 0.25 and moves to 0.35."""
    task = agent(network(atoms=3), double=True)  # atoms 0, 0.5, 1
    with torch.no_grad():
        for net, likely in ((task.net, (0, 2)), (task.target, (2, 1))):
            net.actions.weight.zero_()
            net.actions.bias.copy_(torch.tensor([20.0 * (atom == place) for place in likely for atom in range(3)]))
    batch = transitions(torch.eye(3)[:1], [0.5], [0.1], [0])
    output, slope, error, value = task.predict_return(batch)
    # target (0.3, 0.7, 0), predicted (1, e^-20, e^-20)
    divergence = 0.3 * torch.tensor(0.3).log() + 0.7 * torch.tensor(0.7).log() + 0.7 * 20
    torch.testing.assert_close(error, divergence[None], rtol=1e-5, atol=0)
    assert output.requires_grad
    assert torch.equal(output, error)
    assert torch.equal(task.loss(error), error)
    assert torch.equal(slope, torch.ones(1))
    torch.testing.assert_close(value, torch.zeros(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("net", [{}, {"dueling": True, "noisy": True, "atoms": 5}], ids=["dqn", "rainbow"])
@pytest.mark.parametrize("double", [False, True])
def test_no_gradient_flows_into_the_target(net: dict[str, Any], double: bool) -> None:
    task = agent(network(**net), double=double)
    task.target.requires_grad_(True)
    batch = transitions(torch.eye(3), [0.5] * 3, [0.1] * 3, [0, 1, 0])
    prediction = task.predict_return(batch)
    prediction.output.backward(prediction.slope)
    assert all(parameter.grad is None for parameter in task.target.parameters())
    assert all(parameter.grad is not None for parameter in task.net.parameters())


def test_target_moves_when_it_is_due_and_no_optimizer_has_it() -> None:
    task = agent(target_update_every=3)
    source = Chain(steps=37, batch_size=4)
    states: list[Tensor] = []
    sample = source.sample

    def watched() -> Transitions:
        states.append(next(task.target.parameters()).clone())
        return sample()

    source.sample = watched  # type: ignore[method-assign]
    trainer = fit(task, source, items=1)  # 5 updates: the target moves after the third
    assert [torch.equal(state, states[0]) for state in states] == [True, True, True, False, False]
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.net.parameters()}
    assert not any(parameter.requires_grad for parameter in task.target.parameters())
    assert {name.split(".")[0] for name in task.state_dict()} >= {"net", "target", "env_steps", "grad_updates"}


def test_slow_target() -> None:
    task = agent(table([[1.0, 1.0]] * 3), tau=0.1)
    task.target.load_state_dict(table([[0.0, 2.0]] * 3).state_dict())
    task.move_target()
    torch.testing.assert_close(task.target(torch.eye(3)), torch.tensor([[0.1, 1.9]] * 3))


def test_weights_multiply_the_losses() -> None:
    """A transition of weight 0 says nothing."""

    class Weighted(Chain):
        def sample(self) -> Transitions:
            batch = super().sample()
            return batch._replace(weight=(batch.action == 1).float())

    task = agent(network(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    before = task.net.actions.weight.detach().clone()
    fit(task, Weighted(), items=4)
    assert torch.equal(task.net.actions.weight[0], before[0])
    assert not torch.equal(task.net.actions.weight[1], before[1])


# Exploration ----------------------------------------------------------------------------------------------------------


def test_epsilon_falls_with_the_environment_steps_and_stays() -> None:
    task = agent(total_steps=1000, exploration=Exploration(1.0, 0.1, fraction=0.2))
    assert [round(epsilon_after(task, steps), 3) for steps in (0, 50, 100, 200, 500, 1000)] == [
        1,
        0.775,
        0.55,
        0.1,
        0.1,
        0.1,
    ]
    assert epsilon_after(agent(network(noisy=True)), 0) == 0


def epsilon_after(task: DQN, steps: int) -> float:
    task.counts.steps = steps
    return task.epsilon


@pytest.mark.parametrize(("epsilon", "random_share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_each_environment_explores_for_itself(epsilon: float, random_share: float) -> None:
    task = agent(table([[0.0, 1.0]] * 3), exploration=Exploration(epsilon, epsilon))
    action = task.act(torch.eye(3)[[0]].expand(20_000, 3), torch.zeros(20_000, dtype=torch.bool)).action
    assert action.dtype == torch.int64
    assert float((action == 0).float().mean()) == pytest.approx(random_share / 2, abs=0.02)


def test_random_actions_ask_no_network() -> None:
    task = agent(exploration=Exploration(1.0, 1.0))
    task.net.forward = None  # type: ignore[assignment,method-assign]
    assert len(task.act(torch.eye(3), torch.zeros(3, dtype=torch.bool)).action) == 3


def test_noisy_network_draws_anew_for_each_action_and_is_quiet_in_evaluation() -> None:
    task = agent(network(noisy=True))
    observation, start = torch.eye(3), torch.zeros(3, dtype=torch.bool)
    task.act(observation, start)
    first = task.net.actions.noise_in.clone()
    task.act(observation, start)
    assert not torch.equal(task.net.actions.noise_in, first)
    task.eval()
    assert len({tuple(task.greedy(observation, start).tolist()) for _ in range(20)}) == 1


# Errors ---------------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(UserError, match="target_update_every of at least 1"):
        agent(target_update_every=0)
    with pytest.raises(UserError, match=r"tau in \(0, 1\], got 10 and 2"):
        agent(tau=2)
    with pytest.raises(UserError, match=r"DQN chooses discrete actions, and the environment's are continuous"):
        agent(num_actions=None)
    with pytest.raises(UserError, match="total_steps: exploration follows the run's environment steps"):
        fit(agent(total_steps=None, exploration=Exploration()), Chain(), items=1)
