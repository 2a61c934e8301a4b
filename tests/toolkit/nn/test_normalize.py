import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.nn.normalize import Normalize

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_matches_torchvision() -> None:
    image = torch.rand(4, 3, 5, 6)
    expected = torch.stack([TF.normalize(one, MEAN, STD) for one in image])
    torch.testing.assert_close(Normalize(MEAN, STD)(image), expected, rtol=0, atol=1e-6)


def test_own_statistics_give_mean_0_and_std_1() -> None:
    image = torch.rand(64, 3, 8, 8) * torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    std, mean = torch.std_mean(image, dim=(0, 2, 3))
    std, mean = torch.std_mean(Normalize(mean.tolist(), std.tolist())(image), dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.ones(3), rtol=0, atol=1e-5)


def test_one_of_each_is_for_all_channels() -> None:
    image = torch.rand(2, 5, 4, 4)
    torch.testing.assert_close(Normalize([0.5], [0.25])(image), (image - 0.5) / 0.25)


def test_gradient_is_the_inverse_deviation() -> None:
    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    Normalize(MEAN, STD)(image).sum().backward()
    assert image.grad is not None
    expected = (1 / torch.tensor(STD))[:, None, None].expand_as(image)
    torch.testing.assert_close(image.grad, expected)


def test_statistics_are_saved_with_the_weights() -> None:
    saved = Normalize(MEAN, STD).state_dict()
    other = Normalize([0.0] * 3, [1.0] * 3)
    other.load_state_dict(saved)
    image = torch.rand(1, 3, 2, 2)
    assert torch.equal(other(image), Normalize(MEAN, STD)(image))
    assert list(other.parameters()) == []


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([], [], r"need a mean and a std for each channel, got mean=\[\] and std=\[\]"),
        ([0.5], [0.5, 0.5], r"got mean=\[0.5\] and std=\[0.5, 0.5\]; write as many of one as of the other"),
        ([0.5], [0.0], r"Normalize.std: need numbers above 0, got \[0.0\]; write 1.0 for a constant channel"),
    ],
)
def test_bad_statistics_are_refused(mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Normalize(mean, std)


def test_raw_pixels_are_refused() -> None:
    with pytest.raises(UserError, match=r"need floating images in \[0, 1\], got torch.uint8; pass them through"):
        Normalize(MEAN, STD)(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"has mean and std for 3 channels, got images with 1; write 1 of each, or one"):
        Normalize(MEAN, STD)(torch.zeros(1, 1, 2, 2))
