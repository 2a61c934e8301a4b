"""Networks that answer for each pixel: shapes at any size, gradients everywhere, stages, what they refuse."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters
from toolkit.nn.resnet import CIFARResNet
from toolkit.vision.networks.deeplab import DeepLabV3
from toolkit.vision.networks.fcn import FCN
from toolkit.vision.networks.lraspp import LRASPP
from toolkit.vision.networks.segmentation_unet import SegmentationUNet
from toolkit.vision.networks.small_cnn import SmallCNN


def backbone() -> nn.Module:
    return CIFARResNet(num_classes=1, in_channels=3, width=8)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SegmentationUNet": lambda: SegmentationUNet(5, 3, widths=[4, 8, 16]),
    "SegmentationUNet, stride 2": lambda: SegmentationUNet(5, 3, widths=[4, 8], stride=2, dropout=0.1),
    "FCN": lambda: FCN(backbone(), 5, stride=4),
    "FCN, auxiliary": lambda: FCN(backbone(), 5, stride=4, auxiliary_stride=2),
    "FCN, SmallCNN": lambda: FCN(SmallCNN(1, 3), 5, stride=2),
    "DeepLabV3": lambda: DeepLabV3(backbone(), 5, stride=4, rates=[1, 2], width=8),
    "LRASPP": lambda: LRASPP(backbone(), 5, strides=(2, 4), width=8),
}
each = pytest.mark.parametrize("name", NETWORKS)


@each
def test_an_answer_for_every_pixel_of_any_image(name: str) -> None:
    net = NETWORKS[name]().eval()
    for size in ((32, 32), (23, 31)):
        assert net(torch.randn(2, 3, *size)).shape == (2, 5, *size)


@each
def test_every_parameter_learns(name: str) -> None:
    net = NETWORKS[name]()
    output = net(torch.randn(2, 3, 32, 32))
    logits = output if isinstance(output, tuple) else (output,)
    sum(part.square().mean() for part in logits).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name


@each
def test_stages_have_every_parameter_once_and_the_head_last(name: str) -> None:
    net = NETWORKS[name]()
    stages = stage_parameters(net)
    assert sorted(id(p) for stage in stages for p in stage) == sorted(map(id, net.parameters()))
    assert len(stages) > 2
    last = {id(p) for p in stages[-1]}
    assert all(id(p) in last for n, p in net.named_parameters() if n.startswith("head."))


@each
def test_another_number_of_channels_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="the network was built for 3, got images with 1"):
        NETWORKS[name]()(torch.zeros(2, 1, 32, 32))


def test_an_auxiliary_head_answers_in_training_only() -> None:
    net = FCN(backbone(), 5, stride=4, auxiliary_stride=2)
    logits, auxiliary = net(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 5, 32, 32)
    assert isinstance(net.eval()(torch.randn(2, 3, 32, 32)), torch.Tensor)


def test_frozen_norms_stay() -> None:
    net = FCN(backbone(), 5, stride=4, freeze_norm=True).train()
    before = {name: value.clone() for name, value in net.maps.named_buffers()}
    net(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in net.maps.named_buffers())
    assert net.head[1].training


def test_details_come_across_the_unet() -> None:
    """A pixel's answer depends on its own colour through the finest map, whatever the coarse ones say."""
    net = SegmentationUNet(2, 1, widths=[4, 8, 8]).eval()
    image = torch.zeros(1, 1, 16, 16)
    other = image.clone()
    other[0, 0, 5, 9] = 1
    difference = (net(other) - net(image)).abs().sum(dim=1)[0]
    assert difference[5, 9] > 0
    assert difference[5, 9] > 10 * difference[15, 0]


def test_what_the_unet_refuses() -> None:
    with pytest.raises(UserError, match="need positive numbers"):
        SegmentationUNet(2, 1, widths=[])
    with pytest.raises(UserError, match="stride: need 1 or more, got 0"):
        SegmentationUNet(2, 1, stride=0)
    with pytest.raises(UserError, match="at least 8x8 pixels"):
        SegmentationUNet(2, 1, widths=[4, 4, 4], stride=2)(torch.zeros(1, 1, 6, 9))


def test_a_stride_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(UserError, match="no map at stride 64"):
        FCN(backbone(), 5, stride=64)
