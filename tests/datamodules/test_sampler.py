from itertools import chain

import pytest
import torch

from datamodules.sampler import EvaluationSampler, TrainSampler
from toolkit.errors import UserError


def order(length: int = 96, batch_size: int = 8, seed: int = 0, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[list[int]]:  # fmt: skip
    """The batches that one rank gets in one epoch."""
    sampler = TrainSampler(length, batch_size, seed, rank, world_size)
    sampler.set_epoch(epoch)
    return [batch.index.tolist() for batch in sampler]


@pytest.mark.parametrize(("length", "batch_size"), [(96, 8), (97, 8), (8, 8), (15, 8), (5, 1)])
def test_an_epoch_is_a_permutation_without_its_incomplete_batch(length: int, batch_size: int) -> None:
    batches = order(length, batch_size)
    seen = [number for batch in batches for number in batch]
    assert [len(batch) for batch in batches] == [batch_size] * (length // batch_size)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(length))
    assert len(batches) == len(TrainSampler(length, batch_size, seed=0))


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    torch.manual_seed(3)
    first = order(seed=7, epoch=5)
    torch.manual_seed(4)
    torch.rand(10)
    state = torch.get_rng_state()
    assert order(seed=7, epoch=5) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seeds", [range(6), [0, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40]])
def test_every_seed_and_epoch_has_its_own_order(seeds: list[int]) -> None:
    """Among them (seed 1, epoch 0) and (seed 0, epoch 1), which a sum of the two would make equal.

    torch's CPU generator reads the low 32 bits of a seed only, so a seed shifted above them has no effect.
    """
    orders = {str(order(seed=seed, epoch=epoch)) for seed in seeds for epoch in range(6)}
    assert len(orders) == 6 * len(seeds)


def test_what_one_epoch_drops_another_trains_on() -> None:
    seen = {index for epoch in range(10) for batch in order(10, 8, epoch=epoch) for index in batch}
    assert seen == set(range(10))


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_ranks_partition_the_global_batch(world_size: int) -> None:
    """Rank by rank the slices are the global batch itself, in its order: what one device would see."""
    ranks = [order(epoch=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [list(chain(*slices)) for slices in zip(*ranks, strict=True)] == order(epoch=2)


def test_batches_carry_their_epoch() -> None:
    sampler = TrainSampler(8, 4, seed=0)
    sampler.set_epoch(6)
    assert [batch.epoch for batch in sampler] == [6, 6]


@pytest.mark.parametrize(
    ("length", "batch_size", "world_size", "message"),
    [
        (100, 6, 4, "global batch of 6 does not divide by 4 devices; write a multiple of 4"),
        (100, 2, 4, "does not divide by 4 devices"),
        (5, 6, 1, "global batch of 6 is larger than the training split of 5 samples; write at most 5"),
    ],
)
def test_batches_that_cannot_be_dealt_are_refused(length: int, batch_size: int, world_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainSampler(length, batch_size, seed=0, world_size=world_size)


def test_evaluation_covers_each_sample_once_and_keeps_ranks_in_step() -> None:
    """All combinations of up to 20 samples, batches of 1 to 9 and 1 to 5 ranks."""
    for length in range(1, 21):
        for batch_size in range(1, 10):
            for world_size in range(1, min(5, length) + 1):
                samplers = [EvaluationSampler(length, batch_size, rank, world_size) for rank in range(world_size)]
                ranks = [[batch.index.tolist() for batch in sampler] for sampler in samplers]
                case = f"{length=} {batch_size=} {world_size=}"
                assert {len(batches) for batches in ranks} == {len(samplers[0])}, case
                assert all(batch for batches in ranks for batch in batches), case
                for shares in zip(*ranks, strict=True):
                    assert max(map(len, shares)) - min(map(len, shares)) <= 1, case
                in_order = [index for shares in zip(*ranks, strict=True) for share in shares for index in share]
                assert in_order == list(range(length)), case


def test_evaluation_batches_are_of_the_asked_size() -> None:
    assert [len(batch.index) for batch in EvaluationSampler(10, 4)] == [4, 4, 2]
    assert [len(batch.index) for batch in EvaluationSampler(9, 4, rank=0, world_size=2)] == [2, 3]  # 1 joins the last


@pytest.mark.parametrize(
    ("length", "world_size", "message"),
    [
        (0, 1, "has no samples; hold some out"),
        (0, 4, "has no samples; hold some out"),
        (3, 4, "3 samples cannot be evaluated on 4 devices"),
    ],
)
def test_fewer_samples_than_devices_are_refused(length: int, world_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvaluationSampler(length, 8, world_size=world_size)


def test_a_step_in_more_batches_has_the_same_samples() -> None:
    whole = torch.stack([batch.index for batch in TrainSampler(103, 20, seed=1)])
    parts = torch.stack([batch.index for batch in TrainSampler(103, 5, seed=1, accumulate=4)])
    assert torch.equal(whole.flatten(), parts.flatten())
    with pytest.raises(
        UserError, match=r"20 times accumulate_grad_batches 6 is larger .* of 103 samples; write at most 17"
    ):
        TrainSampler(103, 20, seed=1, accumulate=6)
