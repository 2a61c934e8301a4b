from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete

from datamodules import gymnasium
from datamodules.evaluation import Act, Evaluation
from datamodules.experience import Replay, Rollouts
from datamodules.gymnasium import GymnasiumDataModule
from tests import environments
from toolkit.errors import UserError
from toolkit.experience import Episodes

assert environments


def test_what_tasks_are_told() -> None:
    numbered = GymnasiumDataModule("FrozenLake-v1")
    assert (numbered.observation_shape, numbered.num_states, numbered.num_actions) == ((), 16, 4)
    assert (numbered.action_dim, numbered.action_low, numbered.action_high) == (None, None, None)
    continuous = GymnasiumDataModule("Pendulum-v1", total_steps=7)
    assert (continuous.observation_shape, continuous.num_states, continuous.num_actions) == ((3,), None, None)
    assert (continuous.action_dim, continuous.action_low, continuous.action_high) == (1, [-2.0], [2.0])
    assert continuous.total_steps == 7


@pytest.mark.parametrize("name", ["total_steps", "steps_per_epoch", "num_envs", "val_episodes", "test_episodes"])
def test_numbers_are_positive(name: str) -> None:
    with pytest.raises(UserError, match=f"data.init_args.{name}: need at least 1, got 0"):
        GymnasiumDataModule("CartPole-v1", **{name: 0})


def test_an_epoch_is_so_many_items() -> None:
    data = GymnasiumDataModule("CartPole-v1", num_envs=4, steps_per_epoch=1000, experience=Rollouts(25))
    assert data.steps_per_item == 100
    assert len(data.train_dataloader()) == 10
    one = GymnasiumDataModule("CartPole-v1", steps_per_epoch=10, experience=Replay(steps_per_item=256))
    assert len(one.train_dataloader()) == 1


def test_environments_of_another_seed_begin_elsewhere() -> None:
    seen = []
    for seed in (0, 1, 0):
        data = GymnasiumDataModule("CartPole-v1", num_envs=2)
        data.seed = seed
        (source,) = [next(iter(data.train_dataloader()))]
        seen.append(torch.from_numpy(source.adapter.observation))
        assert not torch.equal(seen[-1][0], seen[-1][1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_evaluation_plays_the_same_episodes_whatever_plays_at_once() -> None:
    """Always the same action: 40 episodes of at most 16 at once, and each alone, from the seeds of the split."""
    data = GymnasiumDataModule("CartPole-v1", test_episodes=40)
    evaluation = next(iter(data.test_dataloader()))
    for _ in range(2):  # it can be repeated
        played = evaluation.play(lambda *_: torch.ones(16, dtype=torch.int64))
        assert played.index.tolist() == list(range(40))
        assert torch.equal(played.episode_return, played.length)
        environment = data.environments.make(training=False)
        for number in (0, 15, 16, 39):
            environment.reset(seed=2_000_000 + number)
            length = 0
            while not any(environment.step(1)[2:4]):
                length += 1
            assert played.length[number] == length + 1
    assert len(played.length.unique()) > 1
    assert not torch.equal(
        played.length[:10], next(iter(data.val_dataloader())).play(lambda *_: torch.ones(10, dtype=torch.int64)).length
    )


def test_fewer_episodes_than_ranks() -> None:
    data = GymnasiumDataModule("CartPole-v1", val_episodes=1)
    data._place = lambda: (0, 2)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="val_episodes: need at least one a rank, 2, got 1"):
        data.evaluation("val")


def test_ranks_share_the_episodes() -> None:
    data = GymnasiumDataModule("CartPole-v1", test_episodes=5)
    shares = []
    for rank in range(2):
        data._evaluations = {}
        data._place = lambda rank=rank: (rank, 2)  # type: ignore[method-assign]
        shares.append(data.evaluation("test").index)
    assert shares == [[0, 2, 4], [1, 3]]


def test_baselines_by_hand() -> None:
    """Each step pays its number, so an episode of five pays 15 to whoever acts; a bandit pays half to who guesses."""
    counting = GymnasiumDataModule("Counting-v0", options={"ends": 5}).baseline("test")
    assert (counting.name, counting.metrics) == ("random policy", {"return_mean": 15.0})
    assert counting.others[0].metrics == {"return_mean": 15.0}
    bandit = GymnasiumDataModule("Bandit-v0").baseline("test")
    assert 0.2 < bandit.metrics["return_mean"] < 0.8
    assert bandit.others[0].name in ("always action 0", "always action 1")
    assert bandit.others[0].metrics["return_mean"] >= 0.5
    assert GymnasiumDataModule("Pendulum-v1").baseline("val").others[0].name.endswith("action")


def test_a_baseline_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all 16 environments still run, nobody waits for the others; what was earned counts."""
    data = GymnasiumDataModule("Counting-v0", max_episode_steps=10**6)
    played = data.evaluation("test").play(lambda *_: torch.zeros(16, dtype=torch.int64), most_steps=4)
    assert played.length.tolist() == [4] * 16
    assert played.episode_return.tolist() == [1 + 2 + 3 + 4] * 16
    monkeypatch.setattr(gymnasium, "BASELINE_STEPS", 5)
    assert data.baseline("val").metrics == {"return_mean": 15.0}


def test_a_baseline_that_the_environment_does_not_survive_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = GymnasiumDataModule("Faulty-v0", options={"fault": "raises at 0"})
    with pytest.warns(UserWarning, match="is left out: .*the motor stands still") as told:
        assert data.baseline("val") is None
    assert [str(one.message).split(" is ")[0] for one in told] == [
        "baseline: always action 0",
        "baseline: a random policy",
    ]
    monkeypatch.setattr(gymnasium, "BASELINE_EPISODES", 1)  # in which the random policy's third action is 1
    with pytest.warns(UserWarning, match="baseline: always action 0 is left out"):
        found = data.baseline("val")
    assert found == ("random policy", {"return_mean": 15.0}, (("always action 1", {"return_mean": 15.0}, ()),))


def test_of_very_many_actions_some_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    data = GymnasiumDataModule("Counting-v0", options={"ends": 5})
    data.action_space = Discrete(210)
    names = list(data._constants(3))
    assert len(names) == gymnasium.MOST_CONSTANTS
    assert (names[0], names[1], names[-1]) == ("action 0", "action 10", "action 199")
    steps = []

    def play(self: Evaluation, act: Act, most_steps: int | None = None) -> Episodes:
        steps.append(most_steps)
        return Episodes(torch.zeros(1), torch.zeros(1), torch.zeros(1))

    monkeypatch.setattr(Evaluation, "play", play)
    data.baseline("val")
    assert steps == [gymnasium.CONSTANTS_STEPS // gymnasium.MOST_CONSTANTS] * 20 + [gymnasium.BASELINE_STEPS]


def test_episodes_that_are_cut_begin_elsewhere_at_each_resume() -> None:
    data = GymnasiumDataModule("CartPole-v1", num_envs=2)
    data.train_dataloader()
    data.saves_experience = True
    state = data.state_dict()
    state["ranks"][0]["environments"] = None  # as of those whose state cannot be read
    begun = []
    for ready in (40, 80, 40):
        progress = SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(ready=ready)))
        trainer: Any = SimpleNamespace(global_rank=0, world_size=1, fit_loop=SimpleNamespace(epoch_loop=progress))
        data.trainer = trainer
        data._go_on(state)
        begun.append(torch.from_numpy(data.experience.adapter.observation))
    assert torch.equal(begun[0], begun[2])
    assert not torch.equal(begun[0], begun[1])


@pytest.mark.parametrize(("total", "ranks"), [(100, 1), (200, 2)])
def test_a_warm_up_as_long_as_the_run_is_refused(total: int, ranks: int) -> None:
    data = GymnasiumDataModule("Counting-v0", total_steps=total, experience=Replay(warmup_steps=100))
    data._place = lambda: (0, ranks)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=rf"100 on each of {ranks} ranks are all of the run's total_steps {total}"):
        data.train_dataloader()
    data.total_steps += 1
    data.train_dataloader()
