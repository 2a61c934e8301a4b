"""Proximal policy optimisation: what an update sees, known values, memories, and environments solved in seconds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from toolkit.errors import UserError
from toolkit.experience import Episodes, EvaluationSource, Policy, Rollout, RolloutSource
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.ppo import PPO, Normalization

LENGTH = 5
"""Steps of an episode."""


class Toy(RolloutSource):
    """Episodes of five steps.

    Args:
        reward: From the observation before, what was shown when the episode began, and the action, to ``(N,)``.
        observe: From the steps so far in the episode and what was drawn for it, ``(N,)`` in [-1, 1], to ``(N, *S)``.
        truncates: Whether an episode's end is a cut.
        resets: Whether a step that only resets stands between two episodes.
    """

    def __init__(
        self,
        reward: Callable[[Tensor, Tensor], Tensor],
        observe: Callable[[Tensor, Tensor], Tensor],
        steps: int = 16,
        count: int = 8,
        truncates: bool = False,
        resets: bool = False,
    ) -> None:
        self.reward, self.observe, self.steps, self.count = reward, observe, steps, count
        self.truncates, self.resets = truncates, resets
        self.place, self.drawn = torch.zeros(count, dtype=torch.int64), self._draw()
        self.running, self.returns = torch.zeros(count), torch.zeros(0)
        self.rollouts: list[Rollout] = []

    def _draw(self) -> Tensor:
        return torch.randint(2, (self.count,)) * 2.0 - 1

    def __len__(self) -> int:
        return self.steps * self.count

    def finished(self) -> Episodes:
        returns, self.returns = self.returns, torch.zeros(0)
        return Episodes(returns, torch.full_like(returns, LENGTH), torch.arange(len(returns)))

    @torch.no_grad()
    def collect(self, policy: Policy) -> Rollout:
        rows = []
        for _ in range(self.steps):
            observation, start = self.observe(self.place, self.drawn), self.place == 0
            taken = policy.act(observation, start)
            policy.count_steps(self.count)
            valid = self.place < LENGTH
            reward = self.reward(self.drawn, policy.environment_action(taken.action)) * valid
            self.place = torch.where(valid, self.place + 1, 0)
            ended = (self.place == LENGTH) & valid
            self.running = self.running * valid + reward
            last = policy.value(self.observe(self.place, self.drawn))
            discounted = self.running.clone()
            self.returns = torch.cat([self.returns, self.running[ended]])
            self.running[ended] = 0
            if not self.resets:
                self.place = torch.where(ended, 0, self.place)
            self.drawn = torch.where(self.place == 0, self._draw(), self.drawn)
            ends = (ended & (not self.truncates), ended & self.truncates)
            rows.append((observation, *taken, last, reward, discounted, *ends, valid, start))
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        self.rollouts.append(Rollout(*columns))
        return self.rollouts[-1]


def constant(place: Tensor, drawn: Tensor) -> Tensor:
    return torch.ones(len(place), 1)


def clock(place: Tensor, drawn: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(place, LENGTH + 1).float()


def sign(place: Tensor, drawn: Tensor) -> Tensor:
    """What was drawn, always."""
    return drawn[:, None]


def sign_at_first(place: Tensor, drawn: Tensor) -> Tensor:
    """What was drawn, in the first step only."""
    return torch.stack([drawn * (place == 0), (place == 0).float()], dim=1)


def match(drawn: Tensor, action: Tensor) -> Tensor:
    """1 where action 1 answers +1 and action 0 answers -1."""
    return (action == (drawn > 0)).float()


def aim(drawn: Tensor, action: Tensor) -> Tensor:
    """0 at best, where the action is 0.5 or -0.5, as was drawn; bounds are -2 and 2."""
    return -(action[:, 0] - drawn / 2).square()


def one(drawn: Tensor, action: Tensor) -> Tensor:
    return torch.ones(len(drawn))


class Greedy(EvaluationSource):
    """Five steps of `Toy`, by the greedy policy."""

    num_envs = 3

    def __init__(self, toy: Toy) -> None:
        self.toy = Toy(toy.reward, toy.observe, count=self.num_envs)

    def play(self, act: Callable[[Tensor, Tensor], Tensor]) -> Episodes:
        total = torch.zeros(self.num_envs)
        for step in range(LENGTH):
            place = torch.full((self.num_envs,), step)
            total += self.toy.reward(self.toy.drawn, act(self.toy.observe(place, self.toy.drawn), place == 0))
        return Episodes(total, torch.full((self.num_envs,), float(LENGTH)), torch.arange(self.num_envs))


class Items:
    """What the Trainer iterates over."""

    def __init__(self, item: Any, count: int = 1) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        yield from [self.item] * self.count


def agent(shape: Sequence[int] = (1,), lstm: int | None = None, action_dim: int | None = None, **options: Any) -> PPO:
    torch.manual_seed(1)
    actions = {"action_dim": action_dim} if action_dim else {"num_actions": 2}
    net = ActorCritic(shape, encoder=MLPEncoder((32,), "tanh"), lstm=lstm, **actions)
    bounds = (
        {"action_low": [-2.0] * action_dim, "action_high": [2.0] * action_dim} if action_dim else {"num_actions": 2}
    )
    given = {"gamma": 0.9, "epochs": 4, "minibatches": 2, "optimizer": adam(1e-2), "observation_shape": shape}
    return PPO(net, **given | bounds | options)


def adam(lr: float) -> Any:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def fit(task: PPO, toy: Toy, items: int = 1, val: bool = False, **options: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=int(val), log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(task, Items(toy, items), Items(Greedy(toy)), **options)
    return trainer


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resets", [False, True])
def test_a_cut_episode_is_worth_as_if_it_went_on(resets: bool) -> None:
    """One for ever at discount 0.9: 10."""
    task, toy = agent(gae_lambda=0.9, optimizer=adam(0.1)), Toy(one, constant, truncates=True, resets=resets)
    fit(task, toy, items=60)
    assert task.value(torch.ones(1, 1)).item() == pytest.approx(10, abs=0.3)


@pytest.mark.parametrize("resets", [False, True])
def test_a_terminated_episode_is_worth_what_it_paid(resets: bool) -> None:
    """From the start of five steps: (1 - 0.9^5) / 0.1, and so on down to 1."""
    task, toy = agent((LENGTH + 1,), gae_lambda=0.9), Toy(one, clock, resets=resets)
    fit(task, toy, items=60)
    expected = torch.tensor([(1 - 0.9 ** (LENGTH - step)) / 0.1 for step in range(LENGTH)])
    torch.testing.assert_close(task.value(torch.eye(LENGTH + 1)[:LENGTH]), expected, rtol=0, atol=0.1)


# Updates --------------------------------------------------------------------------------------------------------------


class Spy(PPO):
    """Notes the losses, and does not update."""

    def update(self, number: int, loss: Tensor) -> None:  # type: ignore[override]
        self.__dict__.setdefault("seen", []).append(loss.item())


@pytest.mark.parametrize("lstm", [None, 4])
@pytest.mark.parametrize("action_dim", [None, 2])
def test_before_the_first_update_the_ratio_is_one(lstm: int | None, action_dim: int | None) -> None:
    """Also in sequences, across episodes' ends, with normalised observations, and in the second rollout."""
    task = agent(lstm=lstm, action_dim=action_dim, epochs=1, minibatches=1,
                 normalization=Normalization(observation=True, reward=True))  # fmt: skip
    task.__class__ = Spy
    toy = Toy(lambda drawn, action: drawn, sign, truncates=True, resets=True)
    trainer = fit(task, toy, items=3)
    assert trainer.callback_metrics["train/approx_kl_epoch"].item() == pytest.approx(0, abs=1e-10)
    assert trainer.callback_metrics["train/clip_fraction_epoch"] == 0
    assert trainer.callback_metrics["train/policy_loss_epoch"].item() == pytest.approx(0, abs=1e-5)  # mean advantage


def test_the_loss_is_the_sum_of_its_parts() -> None:
    values = fit(agent(entropy_weight=0.1, value_weight=0.7), Toy(match, sign)).callback_metrics
    loss, policy, value, entropy = (
        values[f"train/{name}_epoch"].item() for name in ("loss", "policy_loss", "value_loss", "entropy")
    )
    assert loss == pytest.approx(policy + 0.7 * value - 0.1 * entropy, abs=1e-5)
    assert 0 < entropy <= 0.6932
    assert value > 0


def test_updates_are_counted_and_the_kl_stops_them() -> None:
    free, stopped = agent(epochs=10), agent(epochs=10, target_kl=1e-3)
    for task in (free, stopped):
        fit(task, Toy(match, sign))
    assert int(free.grad_updates) == 20
    assert 1 <= int(stopped.grad_updates) < 20
    assert int(free.env_steps) == 16 * 8


def test_invalid_steps_change_nothing() -> None:
    """Whatever stands in them."""

    class Junk(Toy):
        def collect(self, policy: Policy) -> Rollout:
            rollout = super().collect(policy)
            for field in (rollout.reward, rollout.next_value, rollout.log_probability, rollout.value):
                field[~rollout.valid] = 1e6
            rollout.discounted_return[~rollout.valid] = 1e6
            return rollout

    weights = []
    for kind in (Toy, Junk):
        task = agent(normalization=Normalization(observation=True, reward=True))
        fit(task, kind(match, sign, resets=True), items=3)
        weights.append(torch.nn.utils.parameters_to_vector(task.net.parameters()))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_clip_range_falls_with_progress() -> None:
    """The third of four items has half of it left."""
    task = agent(decay_clip_range=True, total_steps=4 * 16 * 8, epochs=8, optimizer=adam(0.05))
    used: list[float] = []
    original = task._values
    task._values = lambda *given: used.append(given[2]) or original(*given)  # type: ignore[method-assign,func-returns-value]
    fit(task, Toy(match, sign), items=4)
    assert used == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_statistics_are_of_the_valid_steps_and_of_all_items() -> None:
    task = agent(normalization=Normalization(observation=True, reward=True))
    toy = Toy(match, sign, resets=True)
    fit(task, toy, items=3)
    assert task.observations is not None
    assert task.returns is not None
    seen = torch.cat([rollout.observation[rollout.valid] for rollout in toy.rollouts])
    returns = torch.cat([rollout.discounted_return[rollout.valid] for rollout in toy.rollouts])
    torch.testing.assert_close(task.observations.mean, seen.mean(dim=0))
    torch.testing.assert_close(task.observations.variance, seen.var(dim=0, correction=0))
    torch.testing.assert_close(task.returns.variance, returns.var(correction=0))


def test_continuous_actions_are_clipped_for_the_environment_only() -> None:
    task = agent(action_dim=2)
    torch.testing.assert_close(
        task.environment_action(torch.tensor([[-3.0, 0.5], [0.0, 9.0]])), torch.tensor([[-2.0, 1.0], [0.0, 2.0]])
    )
    with torch.no_grad():
        assert task.net.log_std is not None
        task.net.log_std.fill_(2.0)
    assert task.act(torch.ones(100, 1), torch.ones(100, dtype=torch.bool)).action.abs().max() > 5


# Memory ---------------------------------------------------------------------------------------------------------------


def test_looking_moves_no_memory() -> None:
    task, observation, no = agent(lstm=4), torch.randn(3, 1), torch.zeros(3, dtype=torch.bool)
    task.act(observation, ~no)
    memory = task._memory
    assert memory is not None
    kept, value = memory.clone(), task.value(observation)
    torch.testing.assert_close(value, task.value(observation), rtol=0, atol=0)
    with task._remembering():
        task.greedy(torch.randn(7, 1), torch.ones(7, dtype=torch.bool))
    assert task._memory is memory
    assert torch.equal(memory, kept)
    torch.testing.assert_close(task.act(observation, no).value, value)


def test_evaluation_leaves_the_training_as_it_is() -> None:
    weights = []
    for val in (False, True):
        task = agent((2,), lstm=4)
        fit(task, Toy(match, sign_at_first), items=3, val=val)
        weights.append(torch.nn.utils.parameters_to_vector(task.net.parameters()))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_memory_is_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, toy = agent((2,), lstm=4), Toy(match, sign_at_first, steps=7)
    trainer = fit(task, toy)
    assert task._memory is not None
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = agent((2,), lstm=4)
    fit(again, toy, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(again._memory, task._memory)
    monkeypatch.setattr(PPO, "device", torch.device("meta"))  # another one than the checkpoint was read to
    again.on_fit_start()
    assert again._memory.is_meta
    monkeypatch.undo()
    fit(again, Toy(match, sign_at_first, count=5))  # a new training begins without
    again._memory = task._memory
    again.learn(Toy(match, sign_at_first, count=5))  # and so do other environments after a resume


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"clip_range_value": 0.2}, {"target_kl": 0.05}, {"minibatches": 1}])
def test_solves_a_discrete_environment(options: dict[str, Any]) -> None:
    trainer = fit(agent(**options), Toy(match, sign, resets=True), items=25, val=True)
    assert trainer.callback_metrics["val/return_mean"] == LENGTH


def test_solves_a_continuous_environment() -> None:
    task = agent(action_dim=1, normalization=Normalization(observation=True, reward=True))
    trainer = fit(task, Toy(aim, sign, truncates=True), items=50, val=True)
    assert trainer.callback_metrics["val/return_mean"] > -0.1  # a policy that knows nothing gets less than -1.25


def test_solves_what_needs_a_memory() -> None:
    toy = Toy(match, sign_at_first, steps=15, resets=True)
    blind = fit(agent((2,)), toy, items=25, val=True)
    seeing = fit(agent((2,), lstm=8), toy, items=25, val=True)
    assert blind.callback_metrics["val/return_mean"] < LENGTH
    assert seeing.callback_metrics["val/return_mean"] == LENGTH


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gae_lambda": 1.5}, r"gae_lambda: need a number in \[0, 1\], got 1.5"),
        ({"epochs": 0}, "epochs: need at least 1"),
        ({"minibatches": 0}, "minibatches: need at least 1"),
        ({"clip_range": 0.0}, "clip_range: need a number above 0"),
        ({"target_kl": -1.0}, "target_kl: need a number above 0"),
        ({"normalization": Normalization(observation=True), "observation_shape": None}, "needs observation_shape"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        agent(**options)


@pytest.mark.parametrize(("lstm", "message"), [(None, "128 steps of a rollout"), (4, "8 environments of a rollout")])
def test_too_many_minibatches(lstm: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(agent(lstm=lstm, minibatches=200), Toy(match, sign))


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A memory, statistics, and episodes that are running."""
    from cli import main

    words = ["verify-resume", "--config", "configs/reinforcement/ppo_recurrent_cartpole.yaml", "--steps=8"]
    words += ["--kill_after=4", "--trainer.accelerator=cpu", "--data.steps_per_epoch=3072", "--data.val_episodes=2"]
    assert main([*words, "--model.epochs=2", "--model.normalization={observation: true, reward: true}"])
    assert "equal       every sample, loss and weight" in capsys.readouterr().out
