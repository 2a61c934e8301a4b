"""Distances of distributions against closed forms."""

import pytest
import torch

from toolkit.errors import UserError
from toolkit.metrics.frechet import FrechetDistance, frechet_distance
from toolkit.metrics.manifold import manifold_precision_recall


def test_frechet_of_commuting_covariances() -> None:
    """For diagonal ones it is the squared distance of means and of deviations."""
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 1.0]).double()
    distance = frechet_distance(torch.zeros(3).double(), a.diag(), torch.ones(3).double(), b.diag())
    assert distance.item() == pytest.approx(3 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)


def test_frechet_is_invariant_to_rotation_and_to_the_cut_into_batches() -> None:
    real, fake = torch.randn(60, 4), 2 * torch.randn(50, 4) + 1
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    whole, parts, rotated = (FrechetDistance(4) for _ in range(3))
    whole.update(real, fake)
    for a, b in zip(real.tensor_split(3), fake.tensor_split(3), strict=True):
        parts.update(a, b)
    rotated.update(real @ rotation, fake @ rotation)
    torch.testing.assert_close(parts.compute(), whole.compute())
    torch.testing.assert_close(rotated.compute(), whole.compute(), rtol=1e-4, atol=1e-4)


def test_frechet_of_equal_samples_is_zero_and_wrong_features_are_refused() -> None:
    metric = FrechetDistance(4)
    x = torch.randn(20, 4)
    metric.update(x, x)
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match=r"need features \(N, 4\), got \(2, 3\)"):
        metric.update(torch.zeros(2, 3), x)


def test_a_collapsed_generator_has_precision_without_recall() -> None:
    real = torch.randn(200, 2)
    collapsed = real[:1] + 1e-4 * torch.randn(200, 2)
    precision, recall = manifold_precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall < 0.05
    with pytest.raises(UserError, match="need more than k = 3"):
        manifold_precision_recall(real[:3], real)


def test_a_diverged_generator_is_infinitely_far() -> None:
    metric = FrechetDistance(4)
    fake = torch.randn(20, 4)
    fake[3, 1] = torch.nan
    metric.update(torch.randn(20, 4), fake)
    assert metric.compute().item() == float("inf")


def test_frechet_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = torch.randn(60, 4), 2 * torch.randn(50, 4) + 1
    exact = FrechetDistance(4)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    metric = FrechetDistance(4)
    for each in (exact, metric):
        each.update(real, fake)
    assert metric.fake_outer.dtype == torch.float32
    torch.testing.assert_close(metric.compute(), exact.compute(), rtol=1e-4, atol=0)
