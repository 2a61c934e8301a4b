from collections import Counter
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import ColorJitter, RandomGrayscale, to_float

STEPS: list[Callable[[Tensor, float], Tensor]] = [
    TF.adjust_brightness,
    TF.adjust_contrast,
    TF.adjust_saturation,
    TF.adjust_hue,
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "transform",
    [
        ColorJitter(brightness=0.9),
        ColorJitter(contrast=0.9),
        ColorJitter(saturation=0.9),
        ColorJitter(hue=0.5),
        ColorJitter(0.4, 0.4, 0.4, 0.1),
    ],
    ids=["brightness", "contrast", "saturation", "hue", "all"],
)
def test_jitter_matches_torchvision(transform: ColorJitter, channels: int, image: Tensor, key: Tensor) -> None:
    """The four functions in the sample's order, up to 1e-5: the turn through HSV is written in another way."""
    floats, u = to_float(image[:, :channels]), keyed_uniform(key, 0, 8)
    factors, order = (each.tolist() for each in transform.make_params(u))
    expected = []
    for i, one in enumerate(floats):
        for kind in order[i]:
            one = STEPS[kind](one, factors[i][kind])
        expected.append(one)
    torch.testing.assert_close(transform(floats, u), torch.stack(expected), rtol=0, atol=1e-5)


def test_factors_and_orders_are_uniform(many: Tensor) -> None:
    transform = ColorJitter(0.4, (0.5, 0.7), 2.0, 0.1)
    factors, order = transform.make_params(keyed_uniform(many, 0, 8))
    for drawn, (low, high) in zip(factors.T, [(0.6, 1.4), (0.5, 0.7), (0.0, 3.0), (-0.1, 0.1)], strict=True):
        assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3
    counts = Counter(map(tuple, order.tolist()))
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_a_full_turn_of_the_hue_from_red_is_green_is_blue() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    third = ColorJitter(hue=(1 / 3, 1 / 3))
    green = third(red, torch.zeros(1, 8))
    torch.testing.assert_close(green.flatten(), torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-5)
    blue = third(green, torch.zeros(1, 8))
    torch.testing.assert_close(blue.flatten(), torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-5)


def test_grayscale_matches_torchvision(image: Tensor, key: Tensor) -> None:
    transform, u = RandomGrayscale(0.5), keyed_uniform(key, 0)
    floats, greys = to_float(image), transform.make_params(u).tolist()
    assert set(greys) == {True, False}
    expected = [TF.rgb_to_grayscale(one, 3) if grey else one for one, grey in zip(floats, greys, strict=True)]
    torch.testing.assert_close(transform(floats, u), torch.stack(expected), rtol=0, atol=1e-6)


def test_grayscale_rate(many: Tensor) -> None:
    greys = RandomGrayscale(0.2).make_params(keyed_uniform(many, 0)).float()
    assert abs(greys.mean() - 0.2) < 4 * (0.2 * 0.8 / len(many)) ** 0.5


@pytest.mark.parametrize("transform", [ColorJitter(), RandomGrayscale()])
def test_other_channels_are_refused(transform: ColorJitter | RandomGrayscale) -> None:
    message = rf"{type(transform).__name__}: knows the colours of grey \(1 channel\) and RGB .* got 4 channels"
    with pytest.raises(UserError, match=message):
        transform(torch.zeros(2, 4, 8, 8), torch.zeros(2, transform.draws))
