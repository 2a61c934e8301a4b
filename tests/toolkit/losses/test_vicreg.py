import math

import pytest
import torch

from toolkit.errors import UserError
from toolkit.losses.vicreg import vicreg_terms


def test_terms_match_hand_computed_values() -> None:
    first = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)  # deviations 1 and 1, covariance 1
    second = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)  # deviations 1 and 0
    terms = vicreg_terms(first, second)
    assert terms.invariance.item() == pytest.approx((4 + 0 + 1) / 6)
    full, none = max(0.0, 1 - math.sqrt(1 + 1e-4)), 1 - math.sqrt(1e-4)
    assert terms.variance.item() == pytest.approx((full + (full + none) / 2) / 2)
    assert terms.covariance.item() == pytest.approx(2 * 1 / 2)  # both off-diagonal entries of the first view, over D


def test_variance_and_covariance_ignore_a_shift_and_the_order() -> None:
    first, second = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms, shifted = vicreg_terms(first, second), vicreg_terms(first + 5, second + 5)
    reordered = vicreg_terms(first.flip(0), second.flip(0))
    for a, b, c in zip(terms, shifted, reordered, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c, a)


def test_gradient_spreads_a_collapsed_batch() -> None:
    z = (1e-3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    vicreg_terms(z, z).variance.backward()
    assert z.grad is not None
    assert (z - 0.1 * z.grad).std() > z.std()


def test_refuses_a_batch_of_one() -> None:
    with pytest.raises(UserError, match="compares the samples of a batch, and got 1"):
        vicreg_terms(torch.ones(1, 3), torch.ones(1, 3))
