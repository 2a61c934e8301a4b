import pytest
import torch
from scipy import stats

from toolkit.keys import keyed_uniform, sample_keys

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_hash_matches_unsigned_reference() -> None:
    """The int64 arithmetic equals SplitMix64 in Python's integers, sign bits included."""
    golden = 0x9E3779B97F4A7C15
    key = sample_keys(7, 3, torch.tensor([11]))
    run = mix((7 + golden) & MASK)
    epoch = mix((run + 4 * golden) & MASK)
    expected = mix((epoch + 12 * golden) & MASK)
    assert key.item() & MASK == expected
    stream = mix((expected + 6 * golden) & MASK)
    draws = [mix((stream + (i + 1) * golden) & MASK) >> 40 for i in range(3)]
    assert keyed_uniform(key, stream=5, n=3)[0].tolist() == [draw * 2.0**-24 for draw in draws]


def test_uniform_is_uniform_and_streams_are_independent() -> None:
    keys = sample_keys(0, 0, torch.arange(20_000))
    a, b = keyed_uniform(keys, 0)[:, 0], keyed_uniform(keys, 1)[:, 0]
    assert stats.kstest(a.numpy(), "uniform").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.03
    assert a.min() >= 0
    assert a.max() < 1


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_seed_and_epoch_change_every_key(other: tuple[int, int]) -> None:
    index = torch.arange(1000)
    keys = torch.cat([sample_keys(0, 0, index), sample_keys(*other, index)])
    assert keys.unique().numel() == 2000


def test_draws_do_not_depend_on_the_batch_or_move_the_global_generator() -> None:
    before = torch.get_rng_state()
    keys = sample_keys(3, 2, torch.arange(100))
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keyed_uniform(keys, 2, 4)[shuffled], keyed_uniform(keys[shuffled], 2, 4))
    assert torch.equal(before, torch.get_rng_state())
