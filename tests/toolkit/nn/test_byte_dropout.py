"""Dropout by bytes: how much it drops, that it keeps the mean, and that its noise is torch's generator's."""

import pytest
import torch

from toolkit.errors import UserError
from toolkit.nn.byte_dropout import ByteDropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.75])
def test_share_and_scale(p: float) -> None:
    rounded = round(p * 256) / 256
    y = ByteDropout(p)(torch.ones(1000, 1001))
    assert abs(float((y == 0).float().mean()) - rounded) < 0.002  # of each byte of a word, the signed one too
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - rounded)])
    columns = (y == 0).float().mean(dim=0)
    assert (columns - rounded).abs().max() < 0.1


def test_gradient_is_that_of_what_is_kept() -> None:
    x = torch.randn(7, 5, requires_grad=True)
    y = ByteDropout(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


def test_same_seed_same_noise_and_none_in_evaluation() -> None:
    layer, x = ByteDropout(0.4), torch.ones(33)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert layer.eval()(x) is x
    assert ByteDropout(0.0)(x) is x
    assert layer(torch.ones(0, 3)).shape == (0, 3)


def test_mistakes() -> None:
    for p in (-0.1, 1.0, 0.9999):
        with pytest.raises(UserError, match="need a probability"):
            ByteDropout(p)
