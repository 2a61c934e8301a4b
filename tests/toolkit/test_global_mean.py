import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from toolkit.global_mean import GlobalMean, parameters_of


def accumulated(pieces: list[tuple[Tensor, Tensor | float]], accumulate: int) -> Tensor:
    """The gradient of the weighted mean of x * p after a window of batches (samples, weight)."""
    parameter = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean = GlobalMean()
    for samples, weight in pieces:
        loss = (samples * parameter).sum() / max(float(weight), 1e-9)
        (mean.weigh(loss, weight, weight) / accumulate).backward()  # type: ignore[no-untyped-call]
    mean.correct(parameters_of(SGD([parameter])), accumulate)
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("counts", [[3, 5], [5, 3], [4, 4], [0, 8], [8, 0]])
@pytest.mark.parametrize("accumulate", [2, 4])  # 4: the last window of an epoch is short
def test_pieces_of_any_weight_make_the_gradient_of_the_whole(counts: list[int], accumulate: int) -> None:
    samples = torch.randn(8, dtype=torch.float64)
    pieces = [(part, torch.tensor(len(part), dtype=torch.float64)) for part in samples.split(counts)]
    torch.testing.assert_close(accumulated(pieces, accumulate), samples.mean(), rtol=0, atol=1e-15)


def test_without_weights_all_batches_count_the_same() -> None:
    samples = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert accumulated([(sample, 1.0) for sample in samples], accumulate=4) == 3


def test_weightless_windows_give_no_nan() -> None:
    nothing = torch.zeros(0, dtype=torch.float64)
    assert accumulated([(nothing, torch.tensor(0.0))] * 2, accumulate=2) == 0


def test_nothing_is_left_for_the_next_window() -> None:
    mean, parameter = GlobalMean(), torch.ones((), requires_grad=True)
    for weight in (2.0, 8.0):
        parameter.grad = None
        mean.weigh(parameter * 3, weight, weight).backward()  # type: ignore[no-untyped-call]
        mean.correct([parameter], 1)
        assert parameter.grad == 3
