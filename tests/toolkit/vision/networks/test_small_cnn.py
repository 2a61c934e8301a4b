import pytest
import torch

from toolkit.errors import UserError
from toolkit.vision.networks.small_cnn import SmallCNN


def test_parameter_count_matches_the_hand_s() -> None:
    """Filters 9*(1*16 + 16*16 + 16*32 + 32*32 + 32*64), two a channel in five norms, head 64*10 + 10."""
    filters = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64)
    norms = 2 * (16 + 16 + 32 + 32 + 64)
    assert sum(p.numel() for p in SmallCNN(10, 1).parameters()) == filters + norms + 650


@pytest.mark.parametrize("size", [8, 28, 33])
def test_shapes_and_head(size: int) -> None:
    net = SmallCNN(num_classes=7, in_channels=3).eval()
    x = torch.randn(2, 3, size, size)
    assert net(x).shape == (2, 7)
    torch.testing.assert_close(net.head(net.forward_features(x)), net(x))


def test_features_do_not_see_where_the_object_stands() -> None:
    """Global max pooling: a shift by the total stride, away from the border, changes nothing."""
    net = SmallCNN(10, 1).eval()
    x = torch.zeros(1, 1, 40, 40)
    x[:, :, 16:20, 16:20] = torch.randn(4, 4)
    torch.testing.assert_close(net.forward_features(x), net.forward_features(x.roll(4, dims=3)))


def test_gradient_reaches_every_parameter() -> None:
    net = SmallCNN(10, 1)
    net(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(("shape", "message"), [((2, 3, 8, 8), "in_channels"), ((2, 1, 3, 8), "at least 4x4")])
def test_wrong_images_are_explained(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SmallCNN(10, 1)(torch.randn(shape))


def test_no_width_is_refused() -> None:
    with pytest.raises(UserError, match="widths"):
        SmallCNN(10, 1, widths=[])
