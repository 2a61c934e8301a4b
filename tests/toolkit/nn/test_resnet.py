import pytest
import torch
import torch.nn.functional as F

from toolkit.errors import UserError
from toolkit.nn.resnet import CIFARResNet


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _count(net):
    return sum(parameter.numel() for parameter in net.parameters())


# Table 6 of the paper, in millions: 0.27, 0.46, 0.66, 0.85 and 1.7.
@pytest.mark.parametrize(
    ("depth", "count"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test__parameter_count_is_the_papers(depth, count):
    assert _count(CIFARResNet(num_classes=10, in_channels=3, depth=depth)) == count


def test__projection_adds_two_convolutions_with_norm():
    net = CIFARResNet(num_classes=10, in_channels=3, shortcut="projection")
    assert _count(net) == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test__depth_counts_the_layers_on_the_main_path():
    net = CIFARResNet(num_classes=10, in_channels=3, depth=32)
    weights = [name for name, parameter in net.named_parameters() if parameter.ndim in (2, 4)]
    assert len(weights) == 32


def _norm(state, name, x):
    stats = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *stats)


def _block(state, name, x, stride):
    y = F.relu(_norm(state, f"{name}.bn1", F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)))
    y = _norm(state, f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1))
    short = torch.zeros_like(y)
    short[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
    return F.relu(y + short)


def test__forward_matches_a_plain_transcription():
    net = CIFARResNet(num_classes=10, in_channels=3, depth=8, width=4)
    net.train()(torch.randn(16, 3, 12, 12))  # so that BatchNorm's statistics are not the trivial ones
    net.eval()
    state, image = net.state_dict(), torch.randn(2, 3, 12, 12)
    x = F.relu(_norm(state, "bn", F.conv2d(image, state["conv.weight"], padding=1)))
    for block, stride in enumerate((1, 2, 2)):
        x = _block(state, f"blocks.{block}", x, stride)
    features = x.mean((2, 3))
    torch.testing.assert_close(net.forward_features(image), features)
    torch.testing.assert_close(net(image), features @ state["head.weight"].T + state["head.bias"])


def test__shift_by_the_total_stride_changes_nothing():
    # On a black ground that stays black (no biases at the start), away from the border, and for stride 4 only.
    net = CIFARResNet(num_classes=10, in_channels=3, depth=8, width=4).eval()
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 28:34, 28:34] = torch.randn(1, 3, 6, 6)
    expected = net(image)
    torch.testing.assert_close(net(image.roll((4, -8), dims=(2, 3))), expected)
    assert not torch.allclose(net(image.roll(1, dims=2)), expected)


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test__gradient_reaches_every_parameter(shortcut):
    net = CIFARResNet(num_classes=10, in_channels=1, depth=14, width=4, shortcut=shortcut)
    net(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test__odd_sizes_work():
    net = CIFARResNet(num_classes=10, in_channels=1, depth=8, width=4)
    assert net(torch.zeros(2, 1, 27, 29)).shape == (2, 10)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test__impossible_depth_raises(depth):
    with pytest.raises(UserError, match=rf"depth.*20, 32.*got {depth}"):
        CIFARResNet(num_classes=10, in_channels=3, depth=depth)


def test__grey_images_raise():
    with pytest.raises(UserError, match=r"set data\.init_args\.in_channels to 3"):
        CIFARResNet(num_classes=10, in_channels=3)(torch.zeros(2, 1, 32, 32))
