import pytest
import torch

from toolkit.metrics.running_means import RunningMeans


def test_weighted_mean_matches_the_mean_over_samples() -> None:
    """Uneven batches: the mean of batch means would be 2.0, the mean over samples is 1.4."""
    means = RunningMeans(["loss", "acc"])
    means.update([torch.tensor(1.0), torch.tensor(0.5)], weight=4)
    means.update([torch.tensor(3.0), torch.tensor(1.0)], weight=torch.tensor(1))
    assert means.compute()["loss"].item() == pytest.approx(1.4)
    assert means.compute()["acc"].item() == pytest.approx(0.6)


def test_window_begins_at_the_mark_and_leaves_the_epoch_alone() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.tensor(1.0)], weight=1)
    means.mark()
    means.update([torch.tensor(5.0)], weight=1)
    assert means.means_of(means.window())["loss"].item() == 5.0
    assert means.compute()["loss"].item() == 3.0


def test_a_million_small_updates_lose_nothing() -> None:
    means = RunningMeans(["loss"])
    means.total += 1e8
    for _ in range(10):
        means.update([torch.tensor(2.0)], weight=1)
    assert means.total.tolist() == [[1e8 + 20], [1e8 + 10]]


def test_each_scalar_may_have_its_own_weight() -> None:
    means = RunningMeans(["loss", "acc"])
    for loss, acc, tokens in ((1.0, 0.5, 3.0), (5.0, 1.0, 1.0)):
        means.update([torch.tensor(loss), torch.tensor(acc)], [torch.tensor(tokens), torch.tensor(2)])
    assert {name: value.item() for name, value in means.compute().items()} == {"loss": 2.0, "acc": 0.75}


def test_update_keeps_no_graph() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.ones((), requires_grad=True) * 2], weight=1)
    assert not means.total.requires_grad
