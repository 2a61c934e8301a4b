"""Soft actor-critic: targets worked out by hand, which parameters learn from what, and a problem of one step."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.errors import UserError
from toolkit.experience import Episodes, Policy, ReplaySource, Transitions
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.soft_actor_critic import SoftActorCritic
from toolkit.reinforcement.networks.squashed_gaussian_actor import IndependentNoiseActor, StateDependentExploration
from toolkit.reinforcement.networks.twin_critics import TwinHead
from toolkit.reinforcement.sac import ACTOR, CRITICS, SAC, SCALARS, TEMPERATURE

LARGE_STEPS = lambda parameters: torch.optim.Adam(parameters, lr=3e-3, fused=True)  # noqa: E731


class Aim(ReplaySource):
    """Episodes of one step: a mark in [-1, 1] is shown, and half of it is to be hit. Everything is kept.

    Args:
        steps: Of an item, in 4 environments at once; an update after each, and none before the first 16.
    """

    def __init__(self, steps: int = 32, batch_size: int = 64) -> None:
        self.steps, self.batch_size = steps, batch_size
        self.shown, self.done, self.earned = (torch.zeros(0, 1) for _ in range(3))
        self.errors: list[Tensor] = []

    def __len__(self) -> int:
        return self.steps * 4

    def finished(self) -> Episodes:
        return Episodes(self.earned[:, 0], torch.ones(len(self.earned)), torch.arange(len(self.earned)))

    def minibatches(self, policy: Policy) -> Iterator[Transitions]:
        for _ in range(self.steps):
            mark = torch.rand(4, 1) * 2 - 1
            action = policy.act(mark, torch.ones(4, dtype=torch.bool)).action
            policy.count_steps(4)
            reward = -(policy.environment_action(action) - mark / 2).square()
            self.shown, self.done = torch.cat([self.shown, mark]), torch.cat([self.done, action])
            self.earned = torch.cat([self.earned, reward])
            if len(self.shown) > 64:
                index = torch.randint(len(self.shown), (self.batch_size,))
                mark = self.shown[index]
                reward, nothing, one = self.earned[index, 0], torch.zeros(len(index)), torch.ones(len(index))
                yield Transitions(mark, self.done[index], reward, mark, nothing, one, index)

    def update_priorities(self, index: Tensor, error: Tensor) -> None:
        assert error.shape == index.shape
        assert not error.requires_grad
        self.errors.append(error)


class Stream:
    """The same source again and again."""

    def __init__(self, source: Aim, items: int) -> None:
        self.source, self.items = source, items

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[Aim]:
        return iter([self.source] * self.items)


def fit(task: SAC, source: Aim, items: int) -> Trainer:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, Stream(source, items), Stream(source, 0))
    return trainer


def agent(**options: Any) -> SAC:
    """With optimizers, and without a Trainer."""
    net = SoftActorCritic((3,), 2, MLPEncoder((16, 16)), (24, 24), exploration=options.pop("exploration", None))
    task = SAC(net, **({"action_low": [-2.0, 0.0], "action_high": [2.0, 1.0]} | options))
    built: Any = task.configure_optimizers()
    optimizers = [each["optimizer"] for each in built]
    task._trainer = SimpleNamespace(world_size=1, optimizers=optimizers)  # type: ignore[assignment]
    return task


def transitions(count: int = 6, **replaced: Tensor) -> Transitions:
    drawn = Transitions(
        torch.randn(count, 3), torch.rand(count, 2) * 2 - 1, torch.randn(count), torch.randn(count, 3),
        torch.full((count,), 0.9), torch.ones(count), torch.arange(count),
    )  # fmt: skip
    return drawn._replace(**replaced)


def update(task: SAC, batch: Transitions | None = None) -> dict[str, Tensor]:
    values = task._update(transitions() if batch is None else batch, Aim())
    return dict(zip(SCALARS, values, strict=False))


def always_say(task: SAC, first: float, second: float) -> None:
    """Target critics that do not look."""
    head = task.target_critics.layers[-1]
    assert isinstance(head, TwinHead)
    nn.init.zeros_(head.weight)
    head.bias.copy_(torch.tensor([[first], [second]]))


def spread_out(task: SAC, log_std: float) -> None:
    """A policy whose standard deviation is the same everywhere, around the centre."""
    assert isinstance(task.net.actor, IndependentNoiseActor)
    nn.init.zeros_(task.net.actor.heads.weight)
    with torch.no_grad():
        task.net.actor.heads.bias.copy_(torch.tensor([0.0, 0.0, log_std, log_std]))


# Targets --------------------------------------------------------------------------------------------------------------


def test_nothing_follows_a_termination_and_something_a_cut() -> None:
    task = agent(temperature=0.5)
    always_say(task, 7.0, 4.0)
    ended, cut = 0.0, 0.9
    batch = transitions(2, reward=torch.tensor([1.0, 1.0]), discount=torch.tensor([ended, cut]))
    state = torch.get_rng_state()
    _, log_pi = task.net.actor(batch.next_observation)
    torch.set_rng_state(state)
    y = task._target(batch, torch.tensor(0.5))
    torch.testing.assert_close(y, torch.stack([torch.tensor(1.0), 1 + 0.9 * (4 - 0.5 * log_pi[1])]))
    assert not y.requires_grad


def test_critic_loss_is_half_the_weighted_squares_of_both() -> None:
    task = agent()
    batch = transitions(2, discount=torch.zeros(2), weight=torch.tensor([1.0, 3.0]))
    error = task.net.critics(batch.observation, batch.action) - batch.reward  # (2, B)
    expected = sum(0.5 * (e[0] ** 2 + 3 * e[1] ** 2) / 2 for e in error)
    source = Aim()
    loss = task._update(batch, source)[0]
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(source.errors[0], error.detach().abs().mean(dim=0))


def test_target_critics_approach_by_a_share() -> None:
    task = agent(tau=0.25)
    with torch.no_grad():
        for parameter in task.target_critics.parameters():
            parameter.zero_()
    update(task)
    for target, parameter in zip(task.target_critics.parameters(), task.net.critics.parameters(), strict=True):
        torch.testing.assert_close(target, 0.25 * parameter)
        assert not target.requires_grad


# The temperature ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log_std", "rises"), [(-4.0, True), (-0.5, False)])
def test_temperature_moves_the_entropy_towards_its_target(log_std: float, rises: bool) -> None:
    task = agent()
    spread_out(task, log_std)
    values = update(task, transitions(256))
    assert (values["entropy"] < task.target_entropy) == rises
    assert (task.log_temperature.item() > 0) == rises


def test_target_entropy_is_minus_the_action_dimensions() -> None:
    assert agent().target_entropy == -2
    assert agent(target_entropy=-0.3).target_entropy == -0.3


def test_entropy_of_a_narrow_policy_is_the_normal_ones() -> None:
    task = agent()
    spread_out(task, -5.0)  # so narrow that the tanh is straight
    entropy = update(task, transitions(4096))["entropy"].item()
    assert entropy == pytest.approx(2 * (0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e)).item() - 5), abs=0.05)


def test_a_fixed_temperature_stays_and_has_no_optimizer() -> None:
    task = agent(temperature=0.1)
    assert len(task.trainer.optimizers) == 2
    values = update(task)
    assert "temperature_loss" not in values
    assert values["temperature"].item() == pytest.approx(0.1)
    assert task.log_temperature.exp().item() == pytest.approx(0.1)
    assert "log_temperature" in task.state_dict()


# Who learns from what -------------------------------------------------------------------------------------------------


def test_optimizers_share_the_parameters_out_and_hold_no_target() -> None:
    task = agent()
    held = [[id(p) for group in o.param_groups for p in group["params"]] for o in task.trainer.optimizers]
    assert held[ACTOR] == [id(p) for p in task.net.actor.parameters()]
    assert held[CRITICS] == [id(p) for p in task.net.critics.parameters()]
    assert held[TEMPERATURE] == [id(task.log_temperature)]
    assert not any(parameter.requires_grad for parameter in task.target_critics.parameters())


def test_each_loss_moves_its_own_parameters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    task = agent()
    losses: dict[int, Tensor] = {}
    monkeypatch.setattr(task, "update", lambda number, loss: losses.setdefault(number, loss))
    update(task)
    reached = {
        number: {name for name, p in task.named_parameters() if p.requires_grad and reaches(loss, p)}
        for number, loss in losses.items()
    }
    names = {part: {name for name, _ in task.named_parameters() if name.startswith(part)} for part in ("net.", "log_")}
    critics = {name for name in names["net."] if "critics" in name}
    assert reached == {TEMPERATURE: names["log_"], CRITICS: critics, ACTOR: names["net."] - critics}


def reaches(loss: Tensor, parameter: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.abs().sum() > 0)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shapes of the results of batched matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default):
            self.shapes.append(tuple(result.shape))
        return result


def test_an_update_computes_no_gradient_of_critics_for_the_actor() -> None:
    task = agent()
    with Products() as products:
        update(task)
    assert products.shapes.count((2, 24, 24)) == 1, "the critics' weights have a gradient once, of their own loss"
    assert products.shapes.count((2, 6, 24)) == 3 * 2 + 1, "three forward passes, and one backward through both critics"


def test_actor_climbs_the_smaller_critic() -> None:
    task, batch = agent(temperature=1e-6, optimizer=LARGE_STEPS), transitions(64)
    task.trainer.optimizers[CRITICS].param_groups[0]["lr"] = 0.0

    def value() -> float:
        action = task.net.actor.greedy(batch.observation)
        return float(task.net.critics(batch.observation, action).amin(dim=0).mean().detach())

    before = value()
    for _ in range(50):
        update(task, batch)
    assert value() > before + 0.01


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exploration", [None, StateDependentExploration(every=4, log_std_init=-1.0)])
def test_learns_to_aim(exploration: StateDependentExploration | None) -> None:
    net = SoftActorCritic((1,), 1, MLPEncoder((32, 32)), (32, 32), exploration=exploration)
    task = SAC(net, optimizer=LARGE_STEPS, action_low=[-2.0], action_high=[2.0], target_entropy=-3.0, tau=0.05)
    source = Aim()
    trainer = fit(task, source, items=25)
    assert trainer.global_step == 25
    assert int(task.env_steps) == 25 * 32 * 4
    assert int(task.grad_updates) == 3 * len(source.errors)
    mark = torch.linspace(-1, 1, 21)[:, None]
    missed = task.environment_action(task.greedy(mark, torch.ones(21, dtype=torch.bool))) - mark / 2
    assert missed.abs().mean() < 0.1
    logged = trainer.callback_metrics
    assert {f"train/{name}_epoch" for name in SCALARS} <= logged.keys()
    assert all(value.isfinite() for value in logged.values())


def test_an_item_without_an_update_reports_nothing() -> None:
    task = agent()
    assert task.learn(SimpleNamespace(minibatches=lambda policy: iter(()))) == {}  # type: ignore[arg-type]


def test_acting_is_repeatable_from_the_generator() -> None:
    task = agent(exploration=StateDependentExploration())
    actions = []
    for _ in range(2):
        torch.manual_seed(5)
        task.net.actor.new_item()
        actions.append(task.act(torch.ones(3, 3), torch.zeros(3, dtype=torch.bool)).action)
    assert torch.equal(*actions)
    assert not actions[0].requires_grad


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: agent(tau=0.0), r"tau: need a share in \(0, 1\], got 0.0"),
        (lambda: agent(temperature=0.0), "temperature: need a positive number, got 0.0"),
        (lambda: agent(initial_temperature=-1.0), "initial_temperature: need a positive number"),
        (lambda: agent(num_actions=3), "SAC chooses continuous actions, and the environment's are discrete"),
    ],
)
def test_wrong_arguments_are_named(build: Callable[[], SAC], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
