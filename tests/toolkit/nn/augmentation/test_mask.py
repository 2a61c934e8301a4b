"""Labels of pixels move as their pixels do: a label that is written as a grey value stays equal to it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toolkit.nn.augmentation.test_base import TABLE
from toolkit.errors import UserError
from toolkit.nn import augmentation
from toolkit.nn.augmentation import (
    Augmentation,
    RandomApply,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Transform,
    to_float,
)
from toolkit.types import IGNORE_LABEL

MOVES = [
    ("RandomHorizontalFlip", {}),
    ("RandomVerticalFlip", {}),
    ("RandomCrop", {"padding": 3}),
    ("RandomCrop", {"size": [9, 11], "padding": 2, "padding_mode": "reflect"}),
    ("RandomCrop", {"size": 12, "padding": 2, "padding_mode": "edge"}),
    ("RandomAffine", {"degrees": 30, "translate": [0.1, 0.2], "scale": [0.8, 1.2], "shear": 10}),
]


def labelled() -> tuple[Tensor, Tensor]:
    """Images ``(24, 1, 20, 14)`` of grey values from 1 on, which are the labels."""
    mask = torch.randint(1, 256, (24, 20, 14), generator=torch.Generator().manual_seed(0))
    return mask[:, None].to(torch.uint8), mask


@pytest.mark.parametrize(("name", "arguments"), MOVES)
def test_labels_go_where_pixels_go(name: str, arguments: dict[str, Any], key: Tensor) -> None:
    image, mask = labelled()
    augment = Augmentation([getattr(augmentation, name)(**arguments)])
    moved, labels = augment.with_mask(image, mask, key)
    assert torch.equal(moved, augment(image, key))
    assert not torch.equal(labels, mask)
    grey = (to_float(moved)[:, 0] * 255).round().long()
    assert torch.equal(labels.where(labels != IGNORE_LABEL, 0), grey)  # outside is black and ignored


def test_a_resampled_rectangle_keeps_half_planes(key: Tensor) -> None:
    """Where the labels change, the grey values pass their middle."""
    mask = torch.zeros(24, 20, 14, dtype=torch.int64)
    mask[:, :, 7:] = 1
    augment = Augmentation([augmentation.RandomResizedCrop(size=40, scale=(0.5, 1.0))])
    moved, labels = augment.with_mask(mask[:, None].to(torch.uint8) * 255, mask, key)
    sure = (moved[:, 0] - 0.5).abs() > 0.01
    assert torch.equal(labels[sure], (moved[:, 0] > 0.5).long()[sure])


def test_some_images_only(key: Tensor) -> None:
    image, mask = labelled()
    transform = RandomApply(RandomHorizontalFlip(p=1.0), p=0.5)
    moved, labels = Augmentation([transform]).with_mask(image, mask, key)
    assert torch.equal(labels, (moved[:, 0] * 255).round().long())
    assert 0 < (labels == mask).flatten(1).all(dim=1).sum() < len(mask)


@pytest.mark.parametrize("name", ["RandomErasing", "ColorJitter", "RandomGrayscale", "GaussianBlur"])
def test_colours_leave_labels_alone(name: str, image: Tensor, key: Tensor) -> None:
    arguments = next(arguments for other, arguments, _ in TABLE if other == name)
    mask = torch.randint(9, (24, 20, 14))
    assert torch.equal(Augmentation([getattr(augmentation, name)(**arguments)]).with_mask(image, mask, key)[1], mask)


def test_labels_are_a_function_of_the_key(image: Tensor, key: Tensor) -> None:
    mask = torch.randint(9, (24, 20, 14))
    augment = Augmentation([RandomCrop(padding=3), RandomHorizontalFlip()])
    whole, part = augment.with_mask(image, mask, key)[1], augment.with_mask(image[7:9], mask[7:9], key[7:9])[1]
    assert torch.equal(whole[7:9], part)


def test_a_transform_that_does_not_say_where_pixels_go_is_refused(image: Tensor, key: Tensor) -> None:
    class Rotated(Transform):
        draws = 0

        def forward(self, image: Tensor, u: Tensor) -> Tensor:
            return image.rot90(2, (2, 3))

    with pytest.raises(UserError, match="Rotated does not say how the labels of pixels move; implement its move_mask"):
        Augmentation([Rotated()]).with_mask(image, torch.zeros(24, 20, 14, dtype=torch.int64), key)


@pytest.mark.parametrize(("name", "arguments"), MOVES)
def test_labels_are_exact_under_half_precision(name: str, arguments: dict[str, Any], key: Tensor) -> None:
    _, mask = labelled()
    augment = Augmentation([getattr(augmentation, name)(**arguments)])
    with torch.autocast("cpu", torch.bfloat16):
        _, labels = augment.with_mask(mask[:, None].to(torch.uint8), mask, key)
    assert torch.equal(labels, augment.with_mask(mask[:, None].to(torch.uint8), mask, key)[1])


def test_another_size_for_some_images_is_refused(image: Tensor, key: Tensor) -> None:
    mask = torch.zeros(len(image), *image.shape[2:]).long()
    with pytest.raises(UserError, match="so that a batch could not hold both"):
        Augmentation([RandomApply(RandomResizedCrop(4))]).with_mask(image, mask, key)
