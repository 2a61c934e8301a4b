from typing import Any

import pytest
import torch

from toolkit.metrics.running_means import UNSETTLED, RunningMeans


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
    means.accumulated += 1e8
    for _ in range(10):
        means.update([torch.tensor(2.0)], weight=1)
    assert means.sums().tolist() == [[1e8 + 20], [1e8 + 10]]


def test_each_scalar_may_have_its_own_weight() -> None:
    means = RunningMeans(["loss", "acc"])
    for loss, acc, tokens in ((1.0, 0.5, 3.0), (5.0, 1.0, 1.0)):
        means.update([torch.tensor(loss), torch.tensor(acc)], [torch.tensor(tokens), torch.tensor(2)])
    assert {name: value.item() for name, value in means.compute().items()} == {"loss": 2.0, "acc": 0.75}


def test_update_keeps_no_graph() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.ones((), requires_grad=True) * 2], weight=1)
    assert not means.sums().requires_grad


def test_values_are_those_of_the_update_whatever_is_written_into_them_later() -> None:
    means = RunningMeans(["loss"])
    loss, tokens = torch.tensor(2.0), torch.tensor(3.0)
    means.update([loss], tokens)
    loss.fill_(100.0)
    tokens.fill_(7.0)
    assert means.sums().tolist() == [[6.0], [3.0]]


def test_sums_do_not_depend_on_when_they_are_asked_for() -> None:
    """A checkpoint, or a resume from it, asks at another time: the sums have to be the same to the last bit."""
    torch.manual_seed(0)
    often, once = RunningMeans(["loss", "acc"]), RunningMeans(["loss", "acc"])
    weights: list[Any] = [3, torch.tensor(0.1), [torch.tensor(0.3), torch.tensor(7)]]
    for number in range(3 * UNSETTLED + 5):
        values = list((torch.randn(2) * 10.0 ** (number % 7 - 3)).unbind())
        for means in (often, once):
            means.update(values, weights[number % 3])
        if number % 5 == 0:
            often.sums()
    assert torch.equal(often.sums(), once.sums())
    assert float(once.sums()[1, 0]) > 3 * UNSETTLED


def test_what_is_noted_and_not_added_up_is_forgotten_with_the_rest() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.tensor(2.0)], weight=1)
    means.reset()
    assert means.sums().tolist() == [[0.0], [0.0]]
    state = torch.tensor([[[4.0], [2.0]], [[1.0], [1.0]]])
    means.update([torch.tensor(2.0)], weight=1)
    means.restore(state)
    assert means.sums().tolist() == [[4.0], [2.0]]
    assert means.window().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("number", [1, UNSETTLED + 1])
def test_rewind_forgets_what_came_behind_the_snapshot(number: int) -> None:
    """As often as need be, and whether or not it was added up by then."""
    means = RunningMeans(["loss"])
    means.update([torch.tensor(2.0)], weight=1)
    snapshot = means.snapshot()
    for _ in range(2):
        for _ in range(number):
            means.update([torch.tensor(5.0)], weight=1)
        assert means.sums().tolist() == [[2.0 + 5 * number], [1.0 + number]]
        means.rewind(snapshot)
    assert means.sums().tolist() == [[2.0], [1.0]]


def test_a_value_that_is_not_finite_ends_with_its_window() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.tensor(float("nan"))], weight=1)
    assert means.window().isnan().any()
    means.mark()
    means.update([torch.tensor(2.0)], weight=1)
    assert means.window().tolist() == [[2.0], [1.0]]
    means.next_epoch()
    means.update([torch.tensor(4.0)], weight=1)
    assert means.window().tolist() == [[6.0], [2.0]]
    assert means.sums().tolist() == [[4.0], [1.0]]


def test_a_module_in_16_bits_has_exact_sums() -> None:
    means = RunningMeans(["loss"])
    means._apply(lambda tensor: tensor.to(torch.bfloat16))
    for _ in range(300):
        means.update([torch.tensor(1.5, dtype=torch.bfloat16)], weight=1)
        means.window()
    assert means.sums().tolist() == [[450.0], [300.0]]
    assert means.compute()["loss"].dtype == torch.float32


def test_a_value_may_be_a_vector_of_one() -> None:
    means = RunningMeans(["loss", "acc"])
    means.update([torch.tensor([1.0]), torch.tensor([3.0])], weight=2)
    means.update([torch.tensor(1.0), torch.tensor(3.0)], weight=2)
    assert means.sums().tolist() == [[4.0, 12.0], [4.0, 4.0]]


def test_a_call_gives_the_batch_and_keeps_the_rest() -> None:
    means = RunningMeans(["loss"])
    means.update([torch.tensor(1.0)], weight=1)
    assert float(means([torch.tensor(3.0)], weight=1)["loss"]) == 3.0
    assert float(means.compute()["loss"]) == 2.0
