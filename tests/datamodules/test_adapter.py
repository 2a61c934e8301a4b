import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from datamodules.adapter import EnvironmentAdapter, Step
from datamodules.environments import Environments
from tests.environments import Bandit, Counting, Faulty, Strict
from toolkit.errors import UserError

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]


def adapter(mode: AutoresetMode, *arguments: dict[str, int]) -> EnvironmentAdapter:
    makers = [lambda given=given: Counting(**given) for given in arguments]
    made = EnvironmentAdapter(SyncVectorEnv(makers, copy=False, autoreset_mode=mode), "Counting")
    made.reset(0)
    return made


def kept(made: EnvironmentAdapter, steps: int) -> list[list[tuple[float, ...]]]:
    """What each environment went through, without the steps that only reset."""
    rows: list[list[tuple[float, ...]]] = [[] for _ in range(made.num_envs)]
    for _ in range(steps):
        start = made.start.copy()
        step = made.step(np.zeros(made.num_envs, dtype=np.int64))
        for number in np.flatnonzero(step.valid):
            rows[number].append(
                (*step.observation[number], *step.next_observation[number], step.reward[number],
                 step.terminated[number], step.truncated[number], start[number])
            )  # fmt: skip
    return rows


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_is_the_same_in_every_mode(mode: AutoresetMode) -> None:
    """(episode, step) before and after, reward, terminated, truncated, first: of one environment that ends after two
    steps, and one that is cut after three."""
    ending, cut = kept(adapter(mode, {"ends": 2}, {"cut": 3}), 12)
    assert ending[:4] == [
        (1, 0, 1, 1, 1, 0, 0, 1),
        (1, 1, 1, 2, 2, 1, 0, 0),
        (2, 0, 2, 1, 1, 0, 0, 1),
        (2, 1, 2, 2, 2, 1, 0, 0),
    ]
    assert cut[:4] == [
        (1, 0, 1, 1, 1, 0, 0, 1),
        (1, 1, 1, 2, 2, 0, 0, 0),
        (1, 2, 1, 3, 3, 0, 1, 0),
        (2, 0, 2, 1, 1, 0, 0, 1),
    ]
    if mode is AutoresetMode.NEXT_STEP:
        assert (len(ending), len(cut)) == (8, 9)  # a third and a quarter of the steps only reset
    else:
        assert (len(ending), len(cut)) == (12, 12)


@pytest.mark.parametrize("mode", MODES)
def test_ended_episodes_are_counted_once(mode: AutoresetMode) -> None:
    made = adapter(mode, {"ends": 2}, {"cut": 3})
    kept(made, 4)
    ended = made.ended()
    expected = [(3.0, 2.0), (6.0, 3.0)] if mode is AutoresetMode.NEXT_STEP else [(3.0, 2.0), (6.0, 3.0), (3.0, 2.0)]
    assert list(zip(ended.episode_return.tolist(), ended.length.tolist(), strict=True)) == expected
    assert len(made.ended().length) == 0


def test_an_environment_s_own_vector_form() -> None:
    """CartPole's resets in the step after; a thousand steps keep every episode connected."""
    made = EnvironmentAdapter(gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point"), "CartPole")
    made.reset(0)
    draw, before = np.random.default_rng(0), None
    for _ in range(300):
        step = made.step(draw.integers(2, size=3))
        if before is not None:
            goes_on = step.valid & ~(before.terminated | before.truncated)
            np.testing.assert_array_equal(before.next_observation[goes_on], step.observation[goes_on])
        assert (np.abs(step.observation[made.start & ~step.valid]) >= 0).all()
        before = step
    ended = made.ended()
    assert len(ended.length) > 20
    assert ended.episode_return.tolist() == ended.length.tolist()  # each step pays 1, and a reset nothing


def test_what_a_step_returned_is_not_written_into_by_the_next() -> None:
    made = adapter(AutoresetMode.SAME_STEP, {"ends": 3})
    one = made.step(np.zeros(1, dtype=np.int64))
    first = Step(*(part.copy() for part in one))
    made.step(np.zeros(1, dtype=np.int64))
    np.testing.assert_array_equal(first.observation, one.observation)
    np.testing.assert_array_equal(first.next_observation, one.next_observation)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("raises", r"step\(\[0, 0\]\) raised RuntimeError: the motor is hot"),
     ("reward", r"returned the reward \[3\.0, nan\]"), ("observation", r"observation of environment 1 .* not finite: \[ ?1\. ?inf\]")],
)  # fmt: skip
def test_a_faulty_environment_is_named(fault: str, message: str) -> None:
    made = EnvironmentAdapter(SyncVectorEnv([Counting, lambda: Faulty(fault)]), "Faulty-v0")
    made.reset(0)
    with pytest.raises(UserError, match=f"environment Faulty-v0: .*{message}"):
        kept(made, 3)


@pytest.mark.parametrize("fault", ["raises", "reward", "observation"])
def test_an_agent_that_diverged_is_blamed_itself(fault: str) -> None:
    made = EnvironmentAdapter(SyncVectorEnv([lambda: Faulty(fault)]), "Faulty-v0")
    made.reset(0)
    kept(made, 2)
    with pytest.raises(UserError, match=r"training diverged: the agent chose the action \[nan\]. Lower the learning"):
        made.step(np.array([np.nan]))


@pytest.mark.filterwarnings("ignore:.*(WARN|ERROR)")  # gymnasium's own words
def test_an_error_in_a_process_of_its_own_is_named() -> None:
    made = EnvironmentAdapter(AsyncVectorEnv([lambda: Faulty("raises")], context="fork"), "Faulty-v0")
    made.reset(0)
    with pytest.raises(UserError, match="motor is hot"):
        kept(made, 3)
    made.environments.close(terminate=True)


def test_one_without_a_mode_is_refused() -> None:
    environments = SyncVectorEnv([Bandit])
    environments.metadata = {}
    with pytest.raises(UserError, match="does not say how it resets"):
        EnvironmentAdapter(environments, "Bandit-v0")


@pytest.mark.parametrize("mode", MODES)
def test_the_last_observation_of_an_episode_is_looked_at(mode: AutoresetMode) -> None:
    made = EnvironmentAdapter(SyncVectorEnv([lambda: Faulty("last observation")], autoreset_mode=mode), "Faulty")
    made.reset(0)
    with pytest.raises(UserError, match=r"observation of environment 0 has values that are not finite: \[ *1\. +inf"):
        kept(made, 3)


def test_an_action_that_is_rounded_beyond_the_bounds_is_the_bound() -> None:
    made = EnvironmentAdapter(SyncVectorEnv([Strict] * 2, autoreset_mode=MODES[0]), "Strict")
    made.reset(0)
    assert made.step(np.array([[0.1], [-0.1]], dtype=np.float32)).reward.tolist() == [1, 1]


def test_evaluation_resets_as_training_does() -> None:
    plain = EnvironmentAdapter(Environments("Faulty-v0", {"fault": "options"}).evaluation(1), "Faulty")
    plain.reset(0)
    assert kept(plain, 6)[0][5][-1]  # the second episode has begun
    failing = EnvironmentAdapter(Environments("Faulty-v0", {"fault": "reset"}).evaluation(1), "Faulty")
    failing.reset(0)
    with pytest.raises(UserError, match="environment Faulty: reset raised RuntimeError: no more levels"):
        kept(failing, 6)
