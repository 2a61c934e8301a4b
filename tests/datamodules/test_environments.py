import functools
import os
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import (
    AtariPreprocessing,
    FlattenObservation,
    NormalizeObservation,
    NormalizeReward,
    RescaleAction,
    TimeLimit,
)

from datamodules.environments import Environments, _make_in_worker
from tests import environments
from toolkit import allow_list
from toolkit.errors import UserError

assert environments


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPol-v1", {}, "CartPol.* Did you mean 'CartPole-v1'"),
        ("CartPole-v7", {}, "version `v7`.* Did you mean .CartPole-v1"),
        ("os:CartPole-v1", {}, "imports os, which is not allowed; add --allow os"),
        ("CartPole-v1", {"gravity": 3}, "options: CartPole-v1 does not take them .*gravity"),
        ("Spaces-v0", {"observation": "dict"}, "observations are Dict.*FlattenObservation"),
        ("Spaces-v0", {"observation": "text"}, "observations are Text"),
        ("Spaces-v0", {"action": "binary"}, "actions are MultiBinary"),
        ("Spaces-v0", {"action": "from one"}, "actions are Discrete"),
        ("Spaces-v0", {"action": "unbounded"}, "have no bounds.*ActionWrapper"),
        ("Spaces-v0", {"action": "huge"}, "have no bounds.*ActionWrapper"),
        ("Spaces-v0", {"action": "integers"}, "actions are Box.*int64.*Box of floats"),
        ("Spaces-v0", {"action": "5x5"}, "Spaces-v0: it cannot be made with the options .*5x5.*: KeyError: '5x5'"),
    ],
)
def test_what_cannot_be_used_is_refused(env_id: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Environments(env_id, options).make(training=True)


def test_a_wrapper_that_does_not_suit_is_named() -> None:
    wrapper = lambda env: RescaleAction(env, -1, 1)  # noqa: E731  # of continuous actions
    with pytest.raises(UserError, match=r"wrappers: .* cannot be put around CartPole-v1"):
        Environments("CartPole-v1", wrappers=[wrapper]).make(training=True)


def test_a_wrapper_from_a_config_has_its_name() -> None:
    wrapper = functools.partial(RescaleAction, min_action=-1, max_action=1)
    with pytest.raises(UserError, match="wrappers: RescaleAction cannot be put around CartPole-v1"):
        Environments("CartPole-v1", wrappers=[wrapper]).make(training=True)


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_statistics_that_no_checkpoint_has_are_refused(wrapper: type[gymnasium.Wrapper]) -> None:
    with pytest.raises(UserError, match=f"{wrapper.__name__} keeps statistics.*model.init_args.normalization"):
        Environments("CartPole-v1", wrappers=[wrapper, lambda env: TimeLimit(env, 5)]).make(training=False)


@pytest.mark.parametrize(("env_id", "given", "limit"), [("CliffWalking-v1", None, 1000), ("CliffWalking-v1", 7, 7),
                                                        ("CartPole-v1", None, 500), ("CartPole-v1", 20, 20)])  # fmt: skip
def test_every_episode_has_a_limit(env_id: str, given: int | None, limit: int) -> None:
    made = Environments(env_id, max_episode_steps=given).make(training=True)
    assert made.spec.max_episode_steps == limit
    if env_id == "CliffWalking-v1":
        made.reset(seed=0)
        assert [made.step(0)[3] for _ in range(limit)] == [False] * (limit - 1) + [True]


@pytest.mark.parametrize(("given", "limit"), [(None, 27_000), (50, 50)])
def test_atari_s_limit_counts_the_agent_s_steps(given: int | None, limit: int) -> None:
    """So it stands around the frame skip, and there is no other inside."""
    layer = Environments("BreakoutNoFrameskip-v4", max_episode_steps=given, atari=True).make(training=True)
    limits, names = [], []
    while isinstance(layer, gymnasium.Wrapper):
        names.append(type(layer))
        limits += [layer._max_episode_steps] if isinstance(layer, TimeLimit) else []
        layer = layer.env
    assert limits == [limit]
    assert names.index(TimeLimit) < names.index(AtariPreprocessing)


def test_wrappers_go_around_every_environment() -> None:
    made = Environments("FrozenLake-v1", wrappers=[FlattenObservation])
    for vector in (made.vector(2, "sync", True), made.evaluation(2)):
        assert vector.single_observation_space.shape == (16,)


def test_the_environment_s_own_vector_form() -> None:
    made = Environments("CartPole-v1", max_episode_steps=9).vector(3, "own", training=True)
    assert made.num_envs == 3
    assert made.max_episode_steps == 9
    with pytest.raises(UserError, match="Pendulum-v1 has no vector form"):
        Environments("Pendulum-v1").vector(3, "own", training=True)
    with pytest.raises(UserError, match="own takes no wrappers"):
        Environments("CartPole-v1", wrappers=[FlattenObservation]).vector(3, "own", training=True)


def test_atari_s_customs() -> None:
    """Four frames of 84 x 84; in training, an episode ends with a life, and rewards are -1, 0 or 1."""
    for env_id in ("ALE/Breakout-v5", "BreakoutNoFrameskip-v4"):
        training, playing = (Environments(env_id, atari=True).make(training=t) for t in (True, False))
        assert training.observation_space.shape == (4, 84, 84)
        assert training.observation_space.dtype == np.uint8
        draw = np.random.default_rng(0)
        lengths = []
        for environment in (training, playing):
            environment.reset(seed=0)
            length, over = 0, False
            while not over:
                _, reward, terminated, truncated, _ = environment.step(int(draw.integers(4)))
                over, length = terminated or truncated, length + 1
                assert environment is playing or reward in (-1, 0, 1)
            lengths.append(length)
            assert environment.get_wrapper_attr("lives") if environment is training else True  # and the game goes on
        assert lengths[0] < lengths[1]
        assert isinstance(training, gymnasium.Env)
    with pytest.raises(UserError, match="CartPole-v1 is no Atari game"):
        Environments("CartPole-v1", atari=True).make(training=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a desktop")
def test_mujoco_draws_without_a_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    Environments("InvertedPendulum-v5").make(training=False, render=True).close()
    assert os.environ["MUJOCO_GL"] == "glfw"  # the user's own word
    monkeypatch.delenv("MUJOCO_GL")
    Environments("InvertedPendulum-v5").make(training=False).close()
    assert "MUJOCO_GL" not in os.environ
    Environments("InvertedPendulum-v5").make(training=False, render=True).close()
    assert os.environ["MUJOCO_GL"] == "egl"


def test_a_vector_form_that_takes_no_limit_is_told() -> None:
    assert Environments("Many-v0").vector(3, "own", training=True).num_envs == 3
    with pytest.raises(UserError, match=r"options: Many-v0 does not take them .*max_episode_steps"):
        Environments("Many-v0", max_episode_steps=5).vector(3, "own", training=True)
    with pytest.raises(UserError, match="-1, for never, is known to single environments only"):
        Environments("CartPole-v1", max_episode_steps=-1).vector(3, "own", training=True)


def test_atari_without_a_limit() -> None:
    made = Environments("PongNoFrameskip-v4", atari=True, max_episode_steps=-1).make(training=True)
    layer = made
    while isinstance(layer, gymnasium.Wrapper):
        assert not isinstance(layer, TimeLimit)
        layer = layer.env


def test_a_worker_allows_what_the_command_line_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is spawned knows of no options, and the working directory may lie elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allow_list, "_named", set())
    made = Environments("tests.environments:Counting-v0")
    with pytest.raises(UserError, match="add --allow tests"):
        made.make(training=True)
    _make_in_worker(made, True, ["tests"])
