"""Batches of pairs of like lengths: every pair once, in a keyed order, alike on any number of ranks."""

import numpy as np
import pytest
import torch

from datamodules.bucket_sampler import BucketSampler
from toolkit.errors import UserError

LENGTHS = np.random.default_rng(0).integers(1, 40, (500, 2))
LIMITS = pytest.mark.parametrize("limit", [{"batch_size": 16}, {"batch_size": 1, "max_tokens": 300}], ids=["pairs", "tokens"])  # fmt: skip


def batches(epoch: int = 0, first: int = 0, seed: int = 0, **options: int) -> list[list[int]]:
    sampler = BucketSampler(LENGTHS, seed=seed, **options)
    sampler.set_epoch(epoch)
    sampler.first = first
    made = [batch.index.tolist() for batch in sampler]
    assert len(made) == len(sampler) - first
    return made


@LIMITS
def test_every_pair_once_an_epoch_in_as_many_batches(limit: dict[str, int]) -> None:
    for epoch in range(3):
        made = batches(epoch, **limit)
        assert sorted(index for batch in made for index in batch) == list(range(500))
        assert len(made) == len(batches(0, **limit))
    assert BucketSampler(LENGTHS, **limit).dropped == 0


@LIMITS
def test_order_depends_on_seed_and_epoch_alone(limit: dict[str, int]) -> None:
    assert batches(2, **limit) == batches(2, **limit)
    assert batches(2, **limit) != batches(3, **limit) != batches(3, seed=1, **limit)
    sets = [{frozenset(batch) for batch in batches(epoch, **limit)} for epoch in (0, 1)]
    assert not sets[0] & sets[1]  # not the batches alone are shuffled, but the pairs in them
    assert batches(2, first=7, **limit) == batches(2, **limit)[7:]


def test_no_batch_has_more_tokens_than_asked_for_and_little_padding() -> None:
    made = batches(max_tokens=300, batch_size=1)
    cost = [len(batch) * LENGTHS[batch].max() for batch in made]
    assert max(cost) <= 300
    assert np.mean(cost) > 200
    padded = sum(len(batch) * LENGTHS[batch, 0].max() for batch in made)
    assert padded < 1.3 * LENGTHS[:, 0].sum()


@LIMITS
def test_ranks_and_accumulated_batches_share_a_step_s_pairs(limit: dict[str, int]) -> None:
    whole = batches(**limit)
    two = [batches(rank=rank, world_size=2, **limit) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*two, strict=True)] == [sorted(batch) for batch in whole]
    assert all(abs(len(a) - len(b)) <= 1 for a, b in zip(*two, strict=True))
    half = {name: value // 2 for name, value in limit.items() if value > 1} | {"accumulate": 2}
    parts = batches(**({"batch_size": 1} | half))
    together = [sorted(a + b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    assert together == [sorted(batch) for batch in whole]


def test_the_last_batch_is_not_tiny() -> None:
    lengths = np.full((33, 2), 4)
    assert sorted(len(batch.index) for batch in BucketSampler(lengths, batch_size=16)) == [8, 9, 16]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="max_tokens: 30 has no room for a text of 39 tokens"):
        BucketSampler(LENGTHS, 1, max_tokens=30)
    with pytest.raises(
        UserError, match="step of 600 pairs is larger than the training split of 500; write at most 250"
    ):
        BucketSampler(LENGTHS, 300, accumulate=2)
    with pytest.raises(UserError, match="cannot be cut into 8 parts"):
        BucketSampler(LENGTHS, 1, max_tokens=100, world_size=8)


def test_longest_first_neighbours_do_not_jump() -> None:
    """Pairs of one source length rise and fall in turn, so that few batches hold both short and long targets."""
    made = batches(max_tokens=300, batch_size=1)
    padded = sum(len(batch) * LENGTHS[batch, 1].max() for batch in made)
    assert padded < 2 * LENGTHS[:, 1].sum()
    assert torch.tensor([len(batch) for batch in made]).min() >= 7
