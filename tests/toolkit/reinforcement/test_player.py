import gymnasium
import numpy as np
import pytest

from tests import environments
from toolkit.errors import UserError
from toolkit.reinforcement.dqn import DQN
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.q_network import QNetwork
from toolkit.reinforcement.player import play_and_watch

assert environments


class Numbered(gymnasium.Env):
    """Its n-th picture is n, and its episode has ``length`` steps that pay 1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int, draws: bool = True) -> None:
        self.length, self.draws, self.steps, self.closed = length, draws, 0, False

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        assert action in (0, 1)
        self.steps += 1
        return np.zeros(2, dtype=np.float32), 1.0, self.steps == self.length, False, {}

    def render(self):
        return np.full((1, 1, 3), self.steps, dtype=np.uint8) if self.draws else None

    def close(self):
        self.closed = True


def agent() -> DQN:
    return DQN(QNetwork((2,), 2, MLPEncoder([4])), num_actions=2, total_steps=10)


@pytest.mark.parametrize(
    ("length", "shown"),
    [(3, [0, 1, 2, 3]), (7, [0, 1, 2, 3, 4, 5, 6, 7]), (9, [0, 2, 4, 6, 8, 9]), (20, [0, 4, 8, 12, 16, 20])],
)
def test_a_long_film_has_gaps_and_an_end(length: int, shown: list[int]) -> None:
    environment = Numbered(length)
    watched = play_and_watch(agent(), environment, seed=0, most_frames=8)
    assert (watched.episode_return, watched.length) == (length, length)
    assert [int(frame[0, 0, 0]) for frame in watched.frames] == shown
    assert environment.closed


def test_nobody_films() -> None:
    assert play_and_watch(agent(), Numbered(3, draws=False), seed=0).frames == []


def test_what_cannot_be_rendered_is_told() -> None:
    environment = Numbered(3, draws=False)
    with pytest.raises(UserError, match="renders NoneType, not a picture"):
        play_and_watch(agent(), environment, seed=0, most_frames=5)
    assert environment.closed


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", r"Faulty-v0: step\([01]\) raised RuntimeError: the motor is hot"),
        ("observation", "not finite: .*inf"),
    ],
)
def test_a_faulty_environment_is_named(fault: str, message: str) -> None:
    with pytest.raises(UserError, match=f"environment {message}" if fault == "raises" else message):
        play_and_watch(agent(), gymnasium.make("Faulty-v0", fault=fault), seed=0)


def test_a_noisy_network_is_quiet_while_it_is_watched_and_noisy_afterwards() -> None:
    noisy = DQN(QNetwork((2,), 2, MLPEncoder([4]), noisy=True, dueling=True), num_actions=2, total_steps=10)
    noisy.train()
    noisy.net.state.eval()
    with noisy.evaluating():
        assert not any(module.training for module in noisy.net.modules())
    assert noisy.net.actions.training
    assert not noisy.net.state.training
