from typing import Any, Literal

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import RandomAffine, to_float

CASES: list[dict[str, Any]] = [
    {"degrees": 180},
    {"degrees": 0, "translate": (0.3, 0.1)},
    {"degrees": 0, "scale": (0.5, 1.7)},
    {"degrees": 0, "shear": 30},
    {"degrees": 0, "shear": (-10, 10, -40, 20)},
    {"degrees": (-20, 70), "translate": (0.2, 0.3), "scale": (0.7, 1.3), "shear": (-20, 10, -5, 15)},
]


def reference(transform: RandomAffine, image: Tensor, u: Tensor, fill: list[float] | None = None) -> Tensor:
    angle, translate, scale, shear = (each.tolist() for each in transform.make_params(u, (20, 14)))
    mode = InterpolationMode(transform.interpolation)
    return torch.stack(
        [
            TF.affine(one, angle[i], translate[i], scale[i], shear[i], interpolation=mode, fill=fill)
            for i, one in enumerate(image)
        ]
    )


@pytest.mark.parametrize("arguments", CASES, ids=str)
def test_bilinear_matches_torchvision(arguments: dict[str, Any], image: Tensor, key: Tensor) -> None:
    """Up to 1e-4: a place 1e-5 pixels off changes a value by no more."""
    transform, u = RandomAffine(**arguments, interpolation="bilinear"), keyed_uniform(key, 0, 6)
    floats = to_float(image)
    torch.testing.assert_close(transform(floats, u), reference(transform, floats, u), rtol=0, atol=1e-4)


@pytest.mark.parametrize("fill", [None, [0.2, 0.5, 0.8]])
@pytest.mark.parametrize("arguments", CASES, ids=str)
def test_nearest_matches_torchvision(
    arguments: dict[str, Any], fill: list[float] | None, image: Tensor, key: Tensor
) -> None:
    """But for the few pixels whose source lies, up to rounding, midway between two: fewer than 1 in 1000."""
    transform, u = RandomAffine(**arguments, fill=fill or 0.0), keyed_uniform(key, 0, 6)
    floats = to_float(image)
    differs = (transform(floats, u) - reference(transform, floats, u, fill)).abs() > 1e-6
    assert differs.float().mean() < 1e-3


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_quarter_turn_is_clockwise(interpolation: Literal["nearest", "bilinear"], image: Tensor) -> None:
    square = to_float(image[:, :, :14])
    turned = RandomAffine((90, 90), interpolation=interpolation)(square, torch.zeros(24, 6))
    torch.testing.assert_close(turned, square.rot90(-1, (2, 3)), rtol=0, atol=1e-5)


def test_shift_goes_right_and_down_by_whole_pixels(image: Tensor) -> None:
    """u just below 1 asks for the largest shift: 0.5 of W = 14 and 0.1 of H = 20."""
    u = torch.full((24, 6), 1 - 2.0**-24)
    moved = RandomAffine(0, translate=(0.5, 0.1), fill=0.25)(image, u)
    torch.testing.assert_close(moved[:, :, 2:, 7:], to_float(image)[:, :, :-2, :-7], rtol=0, atol=1e-6)
    assert (moved[:, :, :2] == 0.25).all()
    assert (moved[:, :, :, :7] == 0.25).all()


def test_border_is_a_mixture_of_image_and_fill(key: Tensor) -> None:
    """The departure from torchvision: an image of the fill's colour has no visible border."""
    grey = torch.full((24, 3, 20, 14), 0.5)
    moved = RandomAffine(45, scale=(0.5, 0.9), interpolation="bilinear", fill=0.5)(grey, keyed_uniform(key, 0, 6))
    torch.testing.assert_close(moved, grey)


def test_parameters_fill_their_ranges(many: Tensor) -> None:
    transform = RandomAffine((-10, 30), translate=(0.2, 0.1), scale=(0.5, 2), shear=(-5, 5, 0, 20))
    params = transform.make_params(keyed_uniform(many, 0, 6), (100, 1000))
    uniform = [(params.angle, -10, 30), (params.scale, 0.5, 2)]
    uniform += [(params.shear[:, 0], -5, 5), (params.shear[:, 1], 0, 20)]
    for drawn, low, high in uniform:
        assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert torch.equal(params.translate, params.translate.round())
    assert params.translate.amin(0).tolist() == [-200, -10]
    assert params.translate.amax(0).tolist() == [200, 10]


def test_fill_for_other_channels_is_refused(image: Tensor) -> None:
    with pytest.raises(UserError, match=r"RandomAffine.fill: need one number, or one for each of the 3 channels, got"):
        RandomAffine(0, fill=[0.1, 0.2])(image, torch.zeros(24, 6))
