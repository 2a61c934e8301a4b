import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.vision.networks.airbench_cnn import AirbenchCNN


def test_parameter_count_matches_the_published_network() -> None:
    """airbench94 has 1.97 M parameters; its blocks and head without the norms' scales, which do not train."""
    net = AirbenchCNN(10, 3)
    filters = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert trained == filters + (64 + 64 + 4 * 256) + 256 * 10 + (24 * 12 + 24)
    assert trained == pytest.approx(1.97e6, rel=0.01)


def test_filters_begin_as_the_identity() -> None:
    block = AirbenchCNN(10, 3, widths=[32, 64, 64]).blocks[0]
    x = torch.randn(1, 24, 9, 9)
    torch.testing.assert_close(block.conv1(x)[:, :24], x)


def test_patch_directions_come_with_their_opposites_and_span_all_patches() -> None:
    weight = AirbenchCNN(10, 3).patches.weight.flatten(1)
    torch.testing.assert_close(weight[:12], -weight[12:])
    torch.testing.assert_close(weight[:12] @ weight[:12].T, 12 * torch.eye(12), atol=1e-4, rtol=0)


def test_logits_scale() -> None:
    torch.manual_seed(0)
    one = AirbenchCNN(10, 1, widths=[8, 8, 8]).eval()
    torch.manual_seed(0)
    three = AirbenchCNN(10, 1, widths=[8, 8, 8], logit_scale=3).eval()
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(3 * one(x), three(x))
    torch.testing.assert_close(one.head(one.forward_features(x)) / 8, one(x))


def test_gradient_reaches_what_trains() -> None:
    net = AirbenchCNN(10, 3, widths=[32, 32, 32])
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert all(not m.weight.requires_grad for m in net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(("shape", "message"), [((2, 1, 32, 32), "in_channels"), ((2, 3, 8, 8), "at least 16x16")])
def test_wrong_images_are_explained(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AirbenchCNN(10, 3)(torch.randn(shape))


def test_widths_must_be_three() -> None:
    with pytest.raises(UserError, match="three positive"):
        AirbenchCNN(10, 3, widths=[64, 128])
