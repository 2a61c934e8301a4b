import math

import pytest
import torch

from toolkit.errors import UserError
from toolkit.losses.nt_xent import nt_xent_loss


def test_matches_a_hand_computed_value() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([[3.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    # cosines of views a, b | a', b': a.a' 1, a.b' 1, a.b 0, b.b' 0, b.a' 0, a'.b' 1
    e = math.exp(2)  # of cosine 1 at temperature 0.5; of cosine 0 it is 1
    losses = [-math.log(e / (e + e + 1)), -math.log(1 / 3), -math.log(e / (e + e + 1)), -math.log(1 / (e + e + 1))]
    assert nt_xent_loss(first, second, 0.5).item() == pytest.approx(sum(losses) / 4, abs=1e-12)


def test_depends_on_neither_length_nor_order_nor_which_view_is_first() -> None:
    first, second = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = nt_xent_loss(first, second, 0.2)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for other in (
        nt_xent_loss(7 * first, second, 0.2),
        nt_xent_loss(first[order], second[order], 0.2),
        nt_xent_loss(second, first, 0.2),
    ):
        torch.testing.assert_close(other, loss, rtol=1e-12, atol=0)


def test_gradient_draws_the_views_of_a_sample_together() -> None:
    first, second = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    first.requires_grad_()
    nt_xent_loss(first, second, 0.5).backward()
    assert first.grad is not None
    moved = first.detach() - 0.1 * first.grad
    assert nt_xent_loss(moved, second, 0.5) < nt_xent_loss(first, second, 0.5)


def test_bfloat16_is_computed_in_float32() -> None:
    z = torch.eye(4, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent_loss(z, z, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent_loss(z.float(), z.float(), 0.1))


def test_refuses_one_sample_other_shapes_and_no_temperature() -> None:
    with pytest.raises(UserError, match=r"compares the samples of a batch, and got 1; write 2"):
        nt_xent_loss(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(UserError, match=r"\(2, 3\) and \(2, 4\)"):
        nt_xent_loss(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(UserError, match="above 0, got 0"):
        nt_xent_loss(torch.ones(2, 3), torch.ones(2, 3), 0)
