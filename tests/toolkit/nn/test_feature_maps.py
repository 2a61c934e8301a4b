"""Maps of any backbone: at the strides asked for, with nothing behind them left."""

import copy

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.feature_maps import FeatureMaps
from toolkit.nn.resnet import CIFARResNet
from toolkit.nn.vit import ViT
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite
from toolkit.vision.networks.small_cnn import SmallCNN
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier

BACKBONES = {
    "resnet18": (lambda: TorchvisionClassifier(2, 3, "resnet18"), [64, 128, 256, 512]),
    "mobilenet": (lambda: TorchvisionClassifier(2, 3, "mobilenet_v3_small"), [16, 24, 48, 576]),
    "regnet": (lambda: TorchvisionClassifier(2, 3, "regnet_y_400mf"), [48, 104, 208, 440]),
    "lite": (lambda: EfficientNetLite(2), [24, 40, 112, 320]),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_what_the_stages_end_with(name: str) -> None:
    """Known widths, sizes that follow the strides, and a gradient for every parameter that is left."""
    build, widths = BACKBONES[name]
    maps = FeatureMaps(build(), strides=[4, 8, 16, 32])
    assert maps.widths == widths
    found = maps(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in found] == [
        (2, width, 64 // stride, 96 // stride) for width, stride in zip(widths, maps.strides, strict=True)
    ]
    sum(m.sum() for m in found).backward()  # type: ignore[union-attr]
    assert [n for n, parameter in maps.named_parameters() if parameter.grad is None] == []


def test_a_copy_keeps_its_own_maps() -> None:
    """No hook of the original is left in a copy."""
    maps = FeatureMaps(SmallCNN(num_classes=1, in_channels=1), strides=[2, 4]).eval()
    other = copy.deepcopy(maps)
    nn.init.zeros_(other.net.get_submodule("layers")[0].weight)  # type: ignore[index, arg-type]
    image = torch.randn(1, 1, 16, 16)
    before = maps(image)
    other(image)
    assert all(torch.equal(a, b) for a, b in zip(before, maps(image), strict=True))


def test_modes_and_statistics_stay() -> None:
    """Looking for the maps neither trains BatchNorm nor switches a mode."""
    net = CIFARResNet(num_classes=1, in_channels=3, depth=8).train()
    net.bn.eval()
    maps = FeatureMaps(net, strides=[1, 4])
    assert maps.net.training
    assert not net.bn.training
    assert all(int(n) == 0 for name, n in net.named_buffers() if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("build", "strides", "text"),
    [
        (lambda: SmallCNN(1, 3), [4, 8], r"no map at stride 8, only at 1, 2, 4"),
        (lambda: SmallCNN(1, 3), [4, 2], "rising numbers"),
        (lambda: ViT(2, 3, image_size=(128, 128), patch_size=16, dim=16, depth=1, heads=2), [16], "no map behind layer"),
    ],
)
def test_errors(build: object, strides: list[int], text: str) -> None:
    """Name the strides that there are."""
    with pytest.raises(UserError, match=text):
        FeatureMaps(build(), strides)  # type: ignore[operator]
