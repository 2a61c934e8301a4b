"""What a wrapped environment shows."""

import gymnasium
import pytest

from datamodules.wrappers import SelectObservation
from toolkit.errors import UserError


def test_select_observation() -> None:
    plain = gymnasium.make("CartPole-v1")
    shown = SelectObservation(gymnasium.make("CartPole-v1"), [0, 2])
    assert shown.observation_space.shape == (2,)
    assert shown.observation_space.high.tolist() == plain.observation_space.high[[0, 2]].tolist()
    (full, _), (part, _) = plain.reset(seed=3), shown.reset(seed=3)
    assert part.tolist() == full[[0, 2]].tolist()
    assert shown.step(1)[0].tolist() == plain.step(1)[0][[0, 2]].tolist()


@pytest.mark.parametrize(("env_id", "indices"), [("CartPole-v1", [4]), ("CartPole-v1", []), ("FrozenLake-v1", [0])])
def test_mistakes(env_id: str, indices: list[int]) -> None:
    with pytest.raises(UserError, match="SelectObservation"):
        SelectObservation(gymnasium.make(env_id), indices)
