"""Statistics against numpy's, in pieces and merged."""

import numpy as np
import pytest
import torch

from toolkit.nn.running_normalizer import RunningNormalizer


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_statistics_are_those_of_all_samples_at_once(pieces: int) -> None:
    samples = 1000 + torch.randn(500, 3) * torch.tensor([0.1, 1.0, 30.0])
    normalizer = RunningNormalizer((3,))
    for piece in samples.tensor_split(pieces):
        normalizer.update(piece)
    expected = samples.double().numpy()
    np.testing.assert_allclose(normalizer.mean.numpy(), expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normalizer.variance.numpy(), expected.var(axis=0), rtol=1e-3)
    assert int(normalizer.count) == 500
    normal = normalizer(samples)
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(3), rtol=0, atol=5e-3)
    torch.testing.assert_close(normal.std(dim=0), torch.ones(3), rtol=0, atol=5e-3)


def test_clipped_and_scaled() -> None:
    normalizer = RunningNormalizer((), clip=3.0)
    normalizer.update(torch.tensor([8.0, 12.0]))
    torch.testing.assert_close(normalizer(torch.tensor([10.0, 12.0, -90.0])), torch.tensor([0.0, 1.0, -3.0]))
    torch.testing.assert_close(normalizer.scale(torch.tensor([1.0, -90.0])), torch.tensor([0.5, -3.0]))


def test_before_the_first_update_nothing_happens() -> None:
    normalizer = RunningNormalizer((2,))
    normalizer.update(torch.zeros(0, 2))
    torch.testing.assert_close(normalizer(torch.tensor([[1.0, -2.0]])), torch.tensor([[1.0, -2.0]]))


def test_a_constant_is_not_blown_up() -> None:
    normalizer = RunningNormalizer((1,))
    normalizer.update(torch.full((10, 1), 5.0))
    assert normalizer(torch.full((1, 1), 5.0)).item() == 0


def test_travels_in_the_state() -> None:
    first, second = RunningNormalizer((2,)), RunningNormalizer((2,))
    first.update(torch.randn(9, 2))
    second.load_state_dict(first.state_dict())
    sample = torch.randn(4, 2)
    assert torch.equal(first(sample), second(sample))


def test_ranks_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks with the same samples: the sums are doubled, and so the count, but not mean and variance."""
    samples = torch.randn(20, 2)
    alone, both = RunningNormalizer((2,)), RunningNormalizer((2,))
    alone.update(samples)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    both.update(samples)
    assert int(both.count) == 2 * int(alone.count)
    torch.testing.assert_close(both.mean, alone.mean)
    torch.testing.assert_close(both.variance, alone.variance)
