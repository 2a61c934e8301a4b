"""One step of autograd against the layers one by one."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from toolkit.nn.fused_layers import FusedLayers, side_by_side


def layers(activation: type[nn.Module], *widths: int) -> FusedLayers:
    pairs = [(nn.Linear(before, after), activation()) for before, after in itertools.pairwise(widths)]
    return FusedLayers(*(module for pair in pairs for module in pair))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("samples", [3, 300])
def test_equals_sequential(activation: type[nn.Module], samples: int) -> None:
    """Small and large, where tanh is computed another way; values and all gradients, that of the input too."""
    fused, head = layers(activation, 4, 64, 32), nn.Linear(32, 2)
    plain = nn.Sequential(*fused)
    assert list(fused.state_dict()) == list(plain.state_dict())
    x = torch.randn(samples, 4, requires_grad=True)
    inputs = [x, *plain.parameters(), *head.parameters()]

    def compare(output: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
        weight = torch.randn_like(output)
        ours, theirs = (torch.autograd.grad(o, inputs, weight, allow_unused=True) for o in (output, expected))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    compare(fused(x), plain(x))
    compare(torch.cat(side_by_side(x, (fused, head), (fused, head)), dim=1), head(plain(x)).repeat(1, 2))
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_gradient(activation: type[nn.Module]) -> None:
    fused = layers(activation, 3, 5, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    parameters = list(fused.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: fused(x), (x, *parameters))
    other, heads = layers(activation, 3, 6).double(), (nn.Linear(2, 1).double(), nn.Linear(6, 4).double())
    inputs = (x, *parameters, *other.parameters(), *heads[0].parameters(), *heads[1].parameters())
    assert torch.autograd.gradcheck(lambda x, *_: side_by_side(x, (fused, heads[0]), (other, heads[1])), inputs)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
@pytest.mark.parametrize("widths", [(3, 5, 2), (3,)])
def test_integers_are_read_as_floats(dtype: torch.dtype, widths: tuple[int, ...]) -> None:
    """One-hot states, bytes of a machine's memory; also without a layer before the head, and under autocast."""
    fused, head = layers(nn.ReLU, *widths), nn.Linear(widths[-1], 2)
    x = torch.tensor([[1, 0, 0], [200, 7, 3]], dtype=dtype)
    torch.testing.assert_close(fused(x), fused(x.float()))
    torch.testing.assert_close(side_by_side(x, (fused, head)), side_by_side(x.float(), (fused, head)))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head(fused(x)), head(fused(x.float())))


def test_gradients_are_contiguous() -> None:
    """Or torch's fused optimizers would apply them to the wrong weights."""
    fused = layers(nn.Tanh, 4, 64, 2)
    assert all(g.is_contiguous() for g in torch.autograd.grad(fused(torch.randn(5, 4)).sum(), list(fused.parameters())))


def test_side_by_side_with_others() -> None:
    fused, other, heads = (
        layers(nn.Tanh, 3, 5),
        nn.Sequential(nn.Linear(3, 5), nn.SiLU()),
        (nn.Linear(5, 1), nn.Linear(5, 2)),
    )
    x = torch.randn(4, 3)
    for given, expected in zip(side_by_side(x, (fused, heads[0]), (other, heads[1])),
                               (heads[0](fused(x)), heads[1](other(x))), strict=True):  # fmt: skip
        torch.testing.assert_close(given, expected)


def test_input_without_gradient_and_flattened() -> None:
    fused = FusedLayers(nn.Flatten(), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
    assert fused.activations == ("relu", "none")
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(fused(x), nn.Sequential(*fused)(x))
    fused(x).sum().backward()
    assert all(parameter.grad is not None for parameter in fused.parameters())


def test_under_autocast_it_is_a_plain_sequence() -> None:
    fused = layers(nn.Tanh, 4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = fused(torch.randn(5, 4))
    assert output.dtype == torch.bfloat16
    output.sum().backward()


def test_what_is_not_a_stack_of_layers_is_a_plain_sequence() -> None:
    odd = FusedLayers(nn.Linear(2, 2), nn.Tanh(), nn.Tanh())
    assert odd.activations is None
    x = torch.randn(3, 2)
    torch.testing.assert_close(odd(x), nn.Sequential(*odd)(x))
    assert FusedLayers().activations == ()
    assert torch.equal(FusedLayers()(x), x)


def test_more_dimensions_are_kept() -> None:
    fused = layers(nn.Tanh, 3, 4)
    assert fused(torch.randn(2, 5, 3)).shape == (2, 5, 4)
    assert fused(torch.randn(3)).shape == (4,)


def test_copies_are_apart() -> None:
    fused = layers(nn.Tanh, 2, 2)
    again = copy.deepcopy(fused)
    with torch.no_grad():
        again[0].weight.zero_()
    assert fused[0].weight.any()
