"""Reference values, invariances and what does not count."""

import pytest
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.losses.dice import DiceLoss, dice_loss
from toolkit.types import IGNORE_LABEL


@pytest.fixture
def probability() -> Tensor:
    return torch.randn(3, 4, 5, 6, dtype=torch.float64).softmax(dim=1)


@pytest.fixture
def label() -> Tensor:
    label = torch.randint(4, (3, 5, 6))
    label[0] = label[0].clamp(max=2)  # an image without class 3
    label[1, :2] = IGNORE_LABEL
    return label


def test_loss_matches_its_definition(probability: Tensor, label: Tensor) -> None:
    for image, (p, y) in enumerate(zip(probability, label, strict=True)):
        coefficients = []
        for k in y[y >= 0].unique().tolist():
            known, true = y != IGNORE_LABEL, y == k
            overlap = sum(float(p[k, i, j]) for i in range(5) for j in range(6) if true[i, j])
            both = sum(float(p[k, i, j]) for i in range(5) for j in range(6) if known[i, j]) + int(true.sum())
            coefficients.append((2 * overlap + 0.5) / (both + 0.5))
        expected = 1 - sum(coefficients) / len(coefficients)
        assert dice_loss(probability, label, smooth=0.5)[image].item() == pytest.approx(expected)


def test_an_image_does_not_depend_on_the_others(probability: Tensor, label: Tensor) -> None:
    whole = dice_loss(probability, label)
    torch.testing.assert_close(
        torch.cat([dice_loss(p[None], y[None]) for p, y in zip(probability, label, strict=True)]), whole
    )


def test_ignored_pixels_count_nowhere(probability: Tensor, label: Tensor) -> None:
    other = probability.clone()
    other[1, :, :2] = torch.randn(4, 2, 6).softmax(dim=0).double()
    torch.testing.assert_close(dice_loss(other, label), dice_loss(probability, label))
    nothing = torch.full_like(label, IGNORE_LABEL)
    probability.requires_grad_()
    loss = dice_loss(probability, nothing)
    assert loss.tolist() == [0, 0, 0]
    loss.sum().backward()
    assert probability.grad is not None
    assert not probability.grad.any()


def test_a_right_answer_costs_nothing_and_gradients_point_there(label: Tensor) -> None:
    known = label.clamp(min=0)
    right = torch.nn.functional.one_hot(known, 4).permute(0, 3, 1, 2).double()
    assert dice_loss(right, label).abs().max() < 1e-12
    logits = torch.zeros(3, 4, 5, 6, requires_grad=True)
    DiceLoss()(logits, label).backward()
    assert logits.grad is not None
    true = logits.grad.gather(1, known[:, None])[label[:, None] >= 0]
    assert (true < 0).all()


def test_shapes_that_do_not_belong_together_are_refused(probability: Tensor, label: Tensor) -> None:
    with pytest.raises(
        UserError, match=r"need probabilities \(B, K, H, W\) and labels \(B, H, W\), got \(3, 4, 5, 6\)"
    ):
        dice_loss(probability, label[:, :4])


def test_many_pixels_in_single_precision() -> None:
    """A sum of a quarter million probabilities does not drift."""
    generator = torch.Generator().manual_seed(0)
    p = 0.994 + 0.006 * torch.rand(1, 1, 512, 512, generator=generator)
    probability, label = torch.cat([p, 1 - p], dim=1), torch.zeros(1, 512, 512, dtype=torch.int64)
    loss = dice_loss(probability, label)
    assert loss >= 0
    torch.testing.assert_close(loss, dice_loss(probability.double(), label).float(), rtol=1e-3, atol=1e-6)
