import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import datamodules.replay_buffer
from datamodules.replay_buffer import Priorities, ReplayBuffer
from toolkit.errors import UserError
from toolkit.experience import Transitions


def buffer(capacity: int = 40, num_envs: int = 1, **more: Any) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_envs, (3,), torch.float32, (2,), torch.float32, **{"gamma": 0.9} | more)


class Episodes:
    """Random episodes, some of them cut, in which an observation says where it is from: environment, time, and noise."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.generator, self.n, self.time = np.random.default_rng(seed), num_envs, 0
        self.present = self.observe()

    def observe(self) -> np.ndarray:
        self.time += 1
        noise = self.generator.random(self.n)
        return np.stack([np.arange(self.n), np.full(self.n, self.time), noise], 1).astype(np.float32)

    def play(self, to: ReplayBuffer, steps: int) -> None:
        for _ in range(steps):
            after, fresh = self.observe(), self.observe()
            terminated, truncated = self.generator.random((2, self.n)) < 0.07
            action, valid = self.present[:, :2] * 10, self.generator.random(self.n) < 0.95
            to.add(self.present, action, self.present[:, 1], after, terminated, truncated, valid)
            self.present = np.where((terminated | truncated)[:, None], fresh, after)


def sampled(of: ReplayBuffer, seed: int = 3, updates: int = 5, batch_size: int = 16) -> list[Transitions]:
    torch.manual_seed(seed)
    drawn = []
    for minibatch in of.sample(updates, batch_size, progress=0.3):
        drawn.append(minibatch)
        of.update_priorities(minibatch.index, minibatch.reward / 100 - 3)
    return drawn


def assert_equal(these: list[Transitions], those: list[Transitions]) -> None:
    for this, that in zip(these, those, strict=True):
        for mine, theirs in zip(this, that, strict=True):
            assert torch.equal(mine, theirs)


def saved(of: ReplayBuffer) -> Any:
    file = io.BytesIO()
    torch.save(of.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


PRIORITIES = [None, Priorities()]


@pytest.mark.parametrize("priorities", PRIORITIES)
@pytest.mark.parametrize(("updates", "batch_size"), [(1, 8), (7, 8), (3, 1)])
def test_minibatches_have_the_contract_s_shapes_and_types(priorities: Any, updates: int, batch_size: int) -> None:
    of = buffer(num_envs=2, priorities=priorities, n_step=2)
    Episodes(2).play(of, 30)
    drawn = [*of.sample(updates, batch_size)]
    assert len(drawn) == updates
    for minibatch in drawn:
        b = batch_size
        assert isinstance(minibatch, Transitions)
        assert [tuple(t.shape) for t in minibatch] == [(b, 3), (b, 2), (b,), (b, 3), (b,), (b,), (b,)]
        assert [t.dtype for t in minibatch] == [torch.float32] * 6 + [torch.int64]
        assert torch.equal(minibatch.action, minibatch.observation[:, :2] * 10)
        assert torch.equal(minibatch.observation[:, 0], minibatch.next_observation[:, 0])
        if priorities is None:
            assert torch.equal(minibatch.weight, torch.ones(b))


def test_pixels_stay_bytes_and_numbered_states_and_actions_numbers() -> None:
    of = ReplayBuffer(10, 1, (2, 2), torch.uint8, (), torch.int64, gamma=0.9)
    no, yes = np.array([False]), np.array([True])
    of.add(
        np.full((1, 2, 2), 200, np.uint8),
        np.array([3]),
        np.array([1.5]),
        np.full((1, 2, 2), 201, np.uint8),
        no,
        no,
        yes,
    )
    (drawn,) = of.sample(1, 2)
    assert (drawn.observation.dtype, drawn.action.dtype) == (torch.uint8, torch.int64)
    assert (drawn.next_observation == 201).all()
    numbers = ReplayBuffer(10, 1, (), torch.int64, (), torch.int64, gamma=0.9)
    numbers.add(np.array([4]), np.array([1]), np.array([1.0]), np.array([5]), no, yes, yes)
    (drawn,) = numbers.sample(1, 2)
    assert (drawn.observation.tolist(), drawn.next_observation.tolist()) == ([4, 4], [5, 5])


@pytest.mark.parametrize("steps", [20, 300])
def test_each_transition_is_drawn_as_often(steps: int) -> None:
    of = buffer(120, num_envs=3)
    Episodes(3).play(of, steps)
    draws = 400_000
    count = torch.cat([m.index for m in of.sample(draws // 1000, 1000)]).bincount()
    assert int(count.count_nonzero()) == len(of)
    expected = draws / len(of)
    chi_square = float(((count[count > 0] - expected) ** 2 / expected).sum())
    degrees = len(of) - 1
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5


def test_large_observations_are_gathered_in_parts_to_the_same_minibatches(monkeypatch: pytest.MonkeyPatch) -> None:
    of = buffer(n_step=3)
    Episodes(1).play(of, 60)
    whole = sampled(of)
    for size in (1, 2 * 2 * 16 * 12):  # one minibatch at once, and two
        monkeypatch.setattr(datamodules.replay_buffer, "BYTES_AT_ONCE", size)
        assert_equal(whole, sampled(of))


def test_nothing_may_be_added_while_parts_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datamodules.replay_buffer, "BYTES_AT_ONCE", 1)
    of, episodes = buffer(), Episodes(1)
    episodes.play(of, 20)
    drawn = of.sample(2, 4)
    next(drawn)
    episodes.play(of, 1)
    with pytest.raises(AssertionError, match="nothing may be added"):
        next(drawn)


@pytest.mark.parametrize("priorities", PRIORITIES)
def test_the_seed_alone_decides(priorities: Any) -> None:
    first, second = buffer(priorities=priorities), buffer(priorities=priorities)
    for of in (first, second):
        Episodes(1).play(of, 50)
    drawn = sampled(first)
    assert_equal(drawn, sampled(second))
    assert not torch.equal(drawn[0].index, sampled(second, seed=4)[0].index)


def test_priorities_decide_what_is_drawn_and_duplicates_do_not_confuse_them() -> None:
    of = buffer(priorities=Priorities(alpha=1.0, epsilon=1e-3))
    Episodes(1).play(of, 30)
    (drawn,) = of.sample(1, 200)
    of.update_priorities(drawn.index, (drawn.index == drawn.index[0]).float())
    (drawn,) = of.sample(1, 100)
    favourite = drawn.index.mode().values
    assert (drawn.index == favourite).sum() >= 90
    assert (drawn.weight[drawn.index == favourite] < 0.1).all()
    assert drawn.weight.max() == 1


def test_without_priorities_errors_change_nothing() -> None:
    of = buffer()
    Episodes(1).play(of, 30)
    before = sampled(of)
    of.update_priorities(before[0].index, torch.full((16,), float("nan")))
    assert_equal(before, sampled(of))


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("priorities", PRIORITIES)
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 15), (1, 100), (3, 9), (3, 100)])
def test_a_restored_buffer_goes_on_bit_for_bit(
    in_file: bool, priorities: Any, num_envs: int, steps: int, tmp_path: Path
) -> None:
    def build() -> ReplayBuffer:
        return buffer(60, num_envs, priorities=priorities, n_step=3, folder=tmp_path if in_file else None)

    of = build()
    Episodes(num_envs).play(of, steps)
    sampled(of, seed=1)  # so that priorities differ
    state, episodes = saved(of), Episodes(num_envs)
    episodes.play(buffer(60, num_envs), steps)  # to the same state of the environments
    restored = build()
    restored.load_state_dict(state)
    assert len(restored) == len(of)
    assert_equal(sampled(restored), sampled(of))
    expected = buffer(60, num_envs, priorities=priorities, n_step=3)
    uncut = Episodes(num_envs)
    uncut.play(expected, steps)
    for seed in (1, 3):
        sampled(expected, seed)
    for _ in range(10):
        episodes.play(restored, 7)
        uncut.play(expected, 7)
        assert_equal(sampled(restored), sampled(expected))


@pytest.mark.parametrize("priorities", PRIORITIES)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_what_a_killed_run_overwrote_is_not_drawn_by_the_one_that_resumes(
    num_envs: int, priorities: Any, tmp_path: Path
) -> None:
    killed = buffer(60, num_envs, priorities=priorities, n_step=2, folder=tmp_path)
    episodes = Episodes(num_envs)
    episodes.play(killed, 100)
    state = saved(killed)
    known: dict[int, tuple[Any, ...]] = {}
    for minibatch in killed.sample(20, 100):
        known |= {
            int(i): tuple(map(Tensor.tolist, row)) for i, *row in zip(minibatch.index, *minibatch[:5], strict=True)
        }
    assert len(known) == len(killed)
    episodes.play(killed, 8)

    resumed = buffer(60, num_envs, priorities=priorities, n_step=2, folder=tmp_path)
    with pytest.warns(UserWarning, match=rf"replay buffer: \d+ of {len(known)} transitions were overwritten"):
        resumed.load_state_dict(state)
    assert len(known) - 2 * 8 * num_envs <= len(resumed) < len(known)
    drawn = set()
    for minibatch in resumed.sample(20, 100):
        for i, *row in zip(minibatch.index, *minibatch[:5], strict=True):
            assert known[int(i)] == tuple(map(Tensor.tolist, row))
            drawn.add(int(i))
    assert len(drawn) == len(resumed)


def test_a_run_whose_files_are_gone_begins_to_collect_anew_and_goes_on_with_its_episode(tmp_path: Path) -> None:
    first, episodes = buffer(folder=tmp_path / "a"), Episodes(1, seed=2)
    episodes.play(first, 30)
    second = buffer(folder=tmp_path / "b")
    with pytest.warns(UserWarning, match="the 26 transitions of .* python cli.py resume RUN_FOLDER"):
        second.load_state_dict(saved(first))
    assert len(second) == 0
    with pytest.raises(UserError, match="nothing to draw"):
        second.sample(1, 4)
    present = episodes.present
    episodes.play(second, 3)
    assert present[0].tolist() in torch.cat([m.observation for m in second.sample(1, 100)]).tolist()


def test_a_state_replaces_all_that_a_buffer_held() -> None:
    few, many = buffer(), buffer()
    Episodes(1).play(few, 5)
    Episodes(1, seed=1).play(many, 30)
    many.load_state_dict(saved(few))
    assert len(many) == len(few)
    Episodes(1, seed=2).play(many, 10)
    Episodes(1, seed=2).play(few, 10)
    assert_equal(sampled(many), sampled(few))


def test_a_state_of_another_buffer_is_refused() -> None:
    with pytest.raises(UserError, match=r"has capacity 40, and this run's capacity 50; write in data.init_args"):
        buffer(50).load_state_dict(buffer(40).state_dict())
    with pytest.raises(UserError, match="prioritized True, and this run's prioritized False"):
        buffer().load_state_dict(buffer(priorities=Priorities()).state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"capacity": 0},
            r"capacity: 0 over 1 environments is 0 each, too few for sums of 1 rewards; write at least 2",
        ),
        ({"capacity": 9, "num_envs": 3, "n_step": 3}, "capacity: 9 over 3 environments is 3 each.*at least 12"),
        ({"num_envs": 0}, "num_envs >= 1"),
        ({"n_step": 0}, "n_step >= 1"),
        ({"gamma": 1.5}, r"gamma in \[0, 1\], got 1, 1 and 1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        buffer(**wrong)


def test_an_empty_buffer_has_nothing_to_draw() -> None:
    with pytest.raises(UserError, match="nothing to draw from yet; write a larger warmup_steps"):
        buffer().sample(1, 4)
