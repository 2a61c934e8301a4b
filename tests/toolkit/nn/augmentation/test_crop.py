import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import RandomCrop, RandomResizedCrop, to_float
from toolkit.nn.augmentation.crop import PaddingMode


@pytest.mark.parametrize("padding_mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(("size", "padding"), [(None, 4), ((9, 11), 0), ((9, 11), 3), ((26, 7), 3)])
def test_crop_matches_torchvision(
    size: tuple[int, int] | None, padding: int, padding_mode: PaddingMode, image: Tensor, key: Tensor
) -> None:
    transform, u = RandomCrop(size, padding, padding_mode), keyed_uniform(key, 0, 2)
    top, left = (each.tolist() for each in transform.make_params(u, (20, 14)))
    expected = [
        TF.crop(TF.pad(one, [padding], padding_mode=padding_mode), top[i], left[i], *(size or (20, 14)))
        for i, one in enumerate(image)
    ]
    assert torch.equal(transform(image, u), torch.stack(expected))


def test_every_position_is_equally_likely(many: Tensor) -> None:
    """H = 20 with 4 on each side and a window of 20 has 9 places; W = 14 and a window of 10 has 13."""
    top, left = RandomCrop((20, 10), padding=4).make_params(keyed_uniform(many, 0, 2), (20, 14))
    assert stats.chisquare(top.bincount(minlength=9).tolist()).pvalue > 1e-3
    assert len(set(top.tolist())) == 9
    assert stats.chisquare(left.bincount(minlength=13).tolist()).pvalue > 1e-3
    assert len(set(left.tolist())) == 13
    assert abs(torch.corrcoef(torch.stack([top, left]).float())[0, 1]) < 0.04


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (RandomCrop(size=(30, 7), padding=4), r"size: \[30, 7\] is larger than .* \[20, 14\] .* which are \[28, 22\]"),
        (RandomCrop(size=15), r"size: \[15, 15\] is larger than the images of \[20, 14\] with padding 0"),
        (RandomCrop(padding=14, padding_mode="reflect"), r"cannot reflect 14 .* write at most 13, or padding_mode"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(transform: RandomCrop, message: str, image: Tensor) -> None:
    with pytest.raises(UserError, match=message):
        transform(image, torch.zeros(24, 2))


@pytest.mark.parametrize("size", [(7, 5), (9, 30), (40, 33), (20, 14)])
def test_resized_crop_matches_torchvision(size: tuple[int, int], image: Tensor, key: Tensor) -> None:
    """Bilinear with antialiasing, smaller and larger, up to 1e-5 (5e-7 measured)."""
    transform = RandomResizedCrop(size)
    u = keyed_uniform(key, 0, transform.draws)
    boxes = torch.stack(transform.make_params(u, (20, 14)), dim=1).tolist()
    floats = to_float(image)
    expected = [TF.resized_crop(one, *box, size=list(size)) for one, box in zip(floats, boxes, strict=True)]
    torch.testing.assert_close(transform(floats, u), torch.stack(expected), rtol=0, atol=1e-5)


def test_area_is_uniform_and_shape_log_uniform(many: Tensor) -> None:
    """In images so large that the first try fits and whole pixels do not show."""
    transform = RandomResizedCrop(32, scale=(0.1, 0.4), ratio=(0.5, 2.0))
    _, _, height, width = transform.make_params(keyed_uniform(many, 0, transform.draws), (10_000, 10_000))
    share = (height * width).double() / 1e8
    assert stats.kstest(share.numpy(), stats.uniform(0.1, 0.3).cdf).pvalue > 1e-3
    shape = (width / height).log2()
    assert stats.kstest(shape.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("image_size", [(40, 10), (10, 40), (40, 30), (1, 1)])
def test_fallback_is_torchvisions(image_size: tuple[int, int], many: Tensor) -> None:
    """With the whole area asked for and a shape that is not the image's, no try fits."""
    ratio = {(40, 30): (0.8, 0.8), (1, 1): (1.0, 1.0)}.get(image_size, (3 / 4, 4 / 3))
    transform, peer = RandomResizedCrop(8, (1, 1), ratio), v2.RandomResizedCrop(8, (1, 1), ratio)
    expected = peer.make_params([torch.zeros(3, *image_size)])
    boxes = transform.make_params(keyed_uniform(many[:50], 0, transform.draws), image_size)
    for ours, name in zip(boxes, ("top", "left", "height", "width"), strict=True):
        assert set(ours.tolist()) == {expected[name]}


def test_a_shape_that_no_image_has_still_gives_an_image(image: Tensor, key: Tensor) -> None:
    """The largest rectangle 1000 times as wide as high would be no pixel high."""
    transform = RandomResizedCrop(8, ratio=(1000, 1000))
    u = keyed_uniform(key, 0, transform.draws)
    assert set(transform.make_params(u, (20, 14)).height.tolist()) == {1}
    assert transform(image, u).isfinite().all()
