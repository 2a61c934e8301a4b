from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import RandomErasing, to_float


@pytest.mark.parametrize(("value", "levels"), [(0.0, [0]), (1.0, [255]), ([0.2, 0.4, 0.999], [51, 102, 255])])
def test_matches_torchvision(value: float | Sequence[float], levels: list[int], image: Tensor, key: Tensor) -> None:
    transform = RandomErasing(value=value)
    u = keyed_uniform(key, 0, transform.draws)
    boxes = torch.stack(transform.make_params(u, (20, 14)), dim=1).tolist()
    assert {box[2] > 0 for box in boxes} == {True, False}
    color = torch.tensor(levels, dtype=torch.uint8)[:, None, None]
    expected = [TF.erase(one, *box, color) for one, box in zip(image, boxes, strict=True)]
    assert torch.equal(transform(image, u), torch.stack(expected))


def test_value_is_on_the_scale_of_floating_images(image: Tensor) -> None:
    u = torch.full((24, 23), 0.5)
    u[:, 0] = 0
    covered = RandomErasing(value=0.25)(to_float(image), u) != to_float(image)
    assert covered.any()
    assert (RandomErasing(value=0.25)(to_float(image), u)[covered] == 0.25).all()


def test_rate_area_and_shape(many: Tensor) -> None:
    """In images so large that every first try fits."""
    transform = RandomErasing(p=0.3, scale=(0.05, 0.2), ratio=(2.0, 4.0))
    top, left, height, width = transform.make_params(keyed_uniform(many, 0, transform.draws), (10_000, 10_000))
    covers = height > 0
    assert abs(covers.float().mean() - 0.3) < 4 * (0.3 * 0.7 / len(many)) ** 0.5
    assert torch.equal(covers, width > 0)
    height, width = height[covers].double(), width[covers].double()
    assert stats.kstest((height * width / 1e8).numpy(), stats.uniform(0.05, 0.15).cdf).pvalue > 1e-3
    assert stats.kstest((height / width).log2().numpy(), stats.uniform(1, 1).cdf).pvalue > 1e-3
    assert (top[covers] + height <= 10_000).all()
    assert (left[covers] + width <= 10_000).all()


def test_nothing_is_covered_where_nothing_fits(image: Tensor, key: Tensor) -> None:
    """As in torchvision, a rectangle is smaller than the image in both directions."""
    transform = RandomErasing(p=1, scale=(1, 1))
    assert torch.equal(transform(image, keyed_uniform(key, 0, transform.draws)), image)


def test_value_for_other_channels_is_refused(image: Tensor) -> None:
    with pytest.raises(UserError, match=r"RandomErasing.value: need one number, or one for each of the 3 channels"):
        RandomErasing(value=[0.1, 0.2])(image, torch.zeros(24, 23))
