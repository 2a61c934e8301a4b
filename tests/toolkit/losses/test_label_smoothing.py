"""The loss against torch's, and its gradient."""

import pytest
import torch
import torch.nn.functional as F

from toolkit.losses.label_smoothing import ROWS, label_smoothed_nats


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rows", [1, ROWS, 2 * ROWS + 3])
def test_loss_and_gradient_match_torch_s(smoothing: float, rows: int) -> None:
    logits = torch.randn(rows, 7, dtype=torch.float64, requires_grad=True)
    label, weight = torch.randint(7, (rows,)), torch.rand(rows, dtype=torch.float64)
    reference = F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")
    (expected,) = torch.autograd.grad((reference * weight).sum(), logits)
    smoothed, nats = label_smoothed_nats(logits, label, smoothing)
    (found,) = torch.autograd.grad((smoothed * weight).sum(), logits)
    torch.testing.assert_close(smoothed, reference)
    torch.testing.assert_close(nats, F.cross_entropy(logits, label, reduction="none"))
    torch.testing.assert_close(found, expected)
    assert not nats.requires_grad


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.randn(50, 100, dtype=torch.bfloat16, requires_grad=True)
    label = torch.randint(100, (50,))
    smoothed, _ = label_smoothed_nats(logits, label, 0.1)
    torch.testing.assert_close(smoothed, F.cross_entropy(logits.float(), label, label_smoothing=0.1, reduction="none"))
    smoothed.mean().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_nothing_is_kept_where_no_gradient_is_asked_for() -> None:
    smoothed, nats = label_smoothed_nats(torch.randn(3, 5), torch.tensor([0, 1, 2]), 0.0)
    torch.testing.assert_close(smoothed, nats)
    assert not smoothed.requires_grad
