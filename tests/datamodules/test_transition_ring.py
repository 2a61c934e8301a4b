from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.transition_ring import TransitionRing

G = 0.5


def ring(capacity: int = 100, num_envs: int = 1) -> TransitionRing:
    return TransitionRing(capacity, num_envs, (1,), torch.float32, (), torch.int64)


def add(
    to: Any, before: Sequence[float], reward: Sequence[float], after: Sequence[float], ends: str, valid: Any = True
) -> None:
    """A step: of each environment a letter of ``ends``, t (terminated), c (cut), b (both) or . (goes on)."""
    n = len(before)
    to.add(
        np.array(before, np.float32)[:, None], np.arange(n), np.array(reward, np.float64), np.array(after, np.float32)[:, None],
        np.array([e in "tb" for e in ends]), np.array([e in "cb" for e in ends]), np.broadcast_to(np.array(valid), n),
    )  # fmt: skip


def episode(to: Any, observations: Sequence[float], rewards: Sequence[float], end: str) -> None:
    for k, reward in enumerate(rewards):
        add(to, [observations[k]], [reward], [observations[k + 1]], end if k == len(rewards) - 1 else ".")


def all_of(of: TransitionRing, n: int) -> dict[float, tuple[float, float, float]]:
    """By observation: reward, next observation, discount."""
    drawn = of.gather(torch.from_numpy(np.flatnonzero(of.kind)), G, n)
    assert len(drawn.reward) == len(of)
    columns = (column.reshape(-1).tolist() for column in (drawn.reward, drawn.next_observation, drawn.discount))
    return dict(zip(drawn.observation.reshape(-1).tolist(), zip(*columns, strict=True), strict=True))


def test_three_steps_with_a_termination_in_the_window() -> None:
    of = ring()
    episode(of, [0, 1, 2, 3, 4], [1, 2, 4, 8], "t")
    assert all_of(of, 3) == {
        0: (1 + 1 + 1, 3, 0.125),
        1: (2 + 2 + 2, 4, 0),
        2: (4 + 4, 4, 0),
        3: (8, 4, 0),
    }


def test_three_steps_with_a_truncation_in_the_window_keep_the_discount() -> None:
    of = ring()
    episode(of, [0, 1, 2, 3, 4], [1, 2, 4, 8], "c")
    episode(of, [10, 11], [100], ".")  # nothing of it gets into the sums
    assert all_of(of, 3) == {
        0: (1 + 1 + 1, 3, 0.125),
        1: (2 + 2 + 2, 4, 0.125),
        2: (4 + 4, 4, 0.25),
        3: (8, 4, 0.5),
        10: (100, 11, 0.5),
    }


def test_a_termination_counts_where_the_time_is_over_too() -> None:
    of = ring()
    episode(of, [0, 1], [1], "b")
    assert all_of(of, 2) == {0: (1, 1, 0)}


def test_a_sum_goes_as_far_as_the_episode_has_come() -> None:
    of = ring()
    add(of, [0], [1], [1], ".")
    assert all_of(of, 3) == {0: (1, 1, 0.5)}
    add(of, [1], [2], [2], ".")
    assert all_of(of, 3) == {0: (2, 2, 0.25), 1: (2, 2, 0.5)}


def test_round_the_ring_the_oldest_go_first_and_the_others_stay_whole() -> None:
    of = ring(capacity=5)
    episode(of, [0, 1, 2, 3], [1, 2, 4], "t")  # four slots with the last observation
    assert set(all_of(of, 2)) == {0, 1, 2}
    add(of, [10], [1], [11], ".")  # its successor takes the slot of observation 0
    assert all_of(of, 2) == {1: (4, 3, 0), 2: (4, 3, 0), 10: (1, 11, 0.5)}
    add(of, [11], [1], [12], ".")
    assert all_of(of, 2) == {2: (4, 3, 0), 10: (1.5, 12, 0.25), 11: (1, 12, 0.5)}
    for k in range(12, 30):
        add(of, [k], [1], [k + 1], ".")
        assert sorted(all_of(of, 2)) == list(range(max(10, k - 3), k + 1))


def test_two_environments_end_at_different_times() -> None:
    of = ring(num_envs=2)
    add(of, [0, 100], [1, 1], [1, 101], ".t")
    add(of, [1, 200], [2, 8], [2, 201], "..")
    add(of, [2, 201], [4, 16], [3, 202], "c.")
    assert all_of(of, 2) == {
        0: (2, 2, 0.25),
        1: (4, 3, 0.25),
        2: (4, 3, 0.5),
        100: (1, 101, 0),
        200: (16, 202, 0.25),
        201: (16, 202, 0.5),
    }


def test_invalid_rows_are_left_out() -> None:
    of = ring(num_envs=2)
    add(of, [0, 100], [1, 1], [1, 101], "t.")
    add(of, [1, 101], [77, 2], [10, 102], "..", valid=[False, True])  # the step that only resets
    add(of, [10, 102], [4, 4], [11, 103], "..")
    assert all_of(of, 2) == {
        0: (1, 1, 0),
        10: (4, 11, 0.5),
        100: (2, 102, 0.25),
        101: (4, 103, 0.25),
        102: (4, 103, 0.5),
    }


@pytest.mark.parametrize("told", [False, True])
def test_an_episode_that_was_cut_from_outside_does_not_go_on_in_the_next(told: bool) -> None:
    of = ring()
    episode(of, [0, 1, 2], [1, 2], ".")
    if told:
        of.cut()
        of.cut()  # nothing is running any more
    episode(of, [10, 11], [4], ".")
    assert all_of(of, 3) == {0: (2, 2, 0.25), 1: (2, 2, 0.5), 10: (4, 11, 0.5)}


def test_a_cut_is_seen_even_where_the_next_episode_begins_with_the_same_observation() -> None:
    of = ring()
    episode(of, [0, 1, 5], [1, 2], ".")
    of.cut()
    episode(of, [5, 6], [4], ".")
    assert all_of(of, 3)[1] == (2, 5, 0.5)


def test_a_transition_is_lost_with_either_of_its_observations_and_others_end_there(tmp_path: Path) -> None:
    def build() -> TransitionRing:
        return TransitionRing(100, 1, (1,), torch.float32, (), torch.int64, folder=tmp_path)

    of = build()
    episode(of, [0, 1, 2, 3, 4, 5], [1, 2, 4, 8, 16], "t")
    state = of.state_dict()
    of.observations.write(3, np.array([77]))  # as a run from an older checkpoint may have done
    resumed = build()
    assert resumed.load_state_dict(state) == 2
    assert all_of(resumed, 3) == {0: (2, 2, 0.25), 1: (2, 2, 0.5), 4: (16, 5, 0)}


def test_the_present_observation_is_never_lost_nor_what_led_to_it(tmp_path: Path) -> None:
    def build() -> TransitionRing:
        return TransitionRing(100, 1, (1,), torch.float32, (), torch.int64, folder=tmp_path)

    of = build()
    episode(of, [0, 1, 2], [1, 2], ".")
    state = of.state_dict()
    of.observations.write(2, np.array([77]))
    resumed = build()
    assert resumed.load_state_dict(state) == 0
    assert all_of(resumed, 1) == {0: (1, 1, 0.5), 1: (2, 2, 0.5)}


class Tape:
    """The definition, slowly: of one environment all that was ever observed, of which the last L observations count."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.rows: list[tuple[float, float | None, bool]] = []
        """Observation, the reward of the step on it if there was one, whether that terminated."""
        self.running = False

    def add(self, before: float, reward: float, after: float, end: str) -> None:
        if self.running:
            assert self.rows.pop()[0] == before
        self.rows += [(before, reward, end in "tb"), (after, None, False)]
        self.running = end == "."

    def all_of(self, n: int) -> dict[float, tuple[float, float, float]]:
        rows, result = self.rows[-self.slots :], {}
        for i, (observation, first, _) in enumerate(rows):
            if first is None:
                continue
            total, discount, last = 0.0, 1.0, i
            for k in range(n):
                _, reward, terminated = rows[i + k]
                if reward is None:
                    break
                total += G**k * reward
                discount = 0.0 if terminated else G ** (k + 1)
                last = i + k + 1
            result[observation] = (total, rows[last][0], discount)
        return result


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_equals_the_slow_definition_on_random_episodes(n: int, num_envs: int) -> None:
    for seed in range(25):
        generator = np.random.default_rng(seed)
        slots = int(generator.integers(n + 1, 14))
        of, tapes = ring(slots * num_envs, num_envs), [Tape(slots) for _ in range(num_envs)]
        fresh, present = 0, [0.0] * num_envs
        for _ in range(60):
            if generator.random() < 0.04:
                of.cut()
                for tape in tapes:
                    tape.running = False
            rewards = generator.integers(-4, 5, num_envs).tolist()  # sums of eighths are exact
            ends = ["." if generator.random() < 0.8 else str(generator.choice([*"tcb"])) for _ in range(num_envs)]
            valid = generator.random(num_envs) < 0.9
            after = []
            for env, tape in enumerate(tapes):
                if not tape.running:
                    present[env] = fresh = fresh + 1  # each observation once, so that they name the transitions
                after.append(fresh := fresh + 1)
                if valid[env]:
                    tape.add(present[env], rewards[env], after[env], ends[env])
            add(of, present, rewards, after, "".join(ends), valid)
            present = [after[env] if valid[env] else present[env] for env in range(num_envs)]
            expected: dict[float, tuple[float, float, float]] = {}
            for tape in tapes:
                expected |= tape.all_of(n)
            assert all_of(of, n) == expected
