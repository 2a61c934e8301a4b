from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import RandomHorizontalFlip, RandomVerticalFlip

FLIPS = pytest.mark.parametrize(
    ("flip", "reference"),
    [(RandomHorizontalFlip, TF.horizontal_flip), (RandomVerticalFlip, TF.vertical_flip)],
)
Flip = type[RandomHorizontalFlip | RandomVerticalFlip]


@FLIPS
def test_matches_torchvision(flip: Flip, reference: Callable[[Tensor], Tensor], image: Tensor, key: Tensor) -> None:
    transform, u = flip(), keyed_uniform(key, 0)
    flips = transform.make_params(u).tolist()
    assert set(flips) == {True, False}
    expected = [reference(one) if flipped else one for one, flipped in zip(image, flips, strict=True)]
    assert torch.equal(transform(image, u), torch.stack(expected))


@FLIPS
def test_probability_1_always_flips(
    flip: Flip, reference: Callable[[Tensor], Tensor], image: Tensor, many: Tensor
) -> None:
    assert flip(p=1).make_params(keyed_uniform(many, 0)).all()
    assert torch.equal(flip(p=1)(image, torch.full((24, 1), 1 - 2.0**-24)), reference(image))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate(p: float, many: Tensor) -> None:
    flips = RandomHorizontalFlip(p).make_params(keyed_uniform(many, 0)).float()
    assert abs(flips.mean() - p) < 4 * (p * (1 - p) / len(many)) ** 0.5
