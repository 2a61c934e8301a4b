"""Adapters: the network begins as it was, its own weights stay, and merging changes no output."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from callbacks.frozen_audit import frozen_tensors
from toolkit.errors import UserError
from toolkit.nn.lora import LoRA, adapt, add_adapters, merge_adapters
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 2))


def convolutions() -> nn.Module:
    """All that a convolution can be; three of them can have an adapter."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1)),
        nn.Sequential(nn.Conv2d(12, 12, 3, padding=2, dilation=2), nn.Conv2d(12, 12, 5, padding=2)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(12, 2),
    )


def trained(net: nn.Module, shape: tuple[int, ...] = (16, 4)) -> None:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        net(torch.randn(shape)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def adapted_layers(net: nn.Module) -> set[str]:
    return {name.partition(".lora_")[0] for name, _ in net.named_parameters() if ".lora_" in name}


def test_base_weights_stay_bit_equal_and_merged_weights_compute_the_same() -> None:
    net, x = network().double(), torch.randn(5, 4, dtype=torch.float64)
    before, output = {name: value.clone() for name, value in net.state_dict().items()}, net(x)
    add_adapters(net, LoRA(rank=2))
    torch.testing.assert_close(net(x), output, rtol=0, atol=0)
    assert {name.split(".")[-3] for name, p in net.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    trained(net.float())
    net.double()
    for name, value in net.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, before[name.replace("base_layer.", "")].float().double()), name
    assert not any("lora_" in name for name, _ in frozen_tensors(net))
    adapted = net(x)
    assert (adapted - output).abs().max() > 0.01
    merge_adapters(net)
    assert net.state_dict().keys() == before.keys()
    torch.testing.assert_close(net(x), adapted)


def test_convolutions_are_adapted_and_the_head_is_trained_whole() -> None:
    net, x = convolutions(), torch.randn(5, 3, 16, 16)
    before, output = {name: value.clone() for name, value in net.state_dict().items()}, net.eval()(x)
    adapt(net.train(), LoRA(rank=2))
    assert adapted_layers(net) == {"0.0", "1.1", "2.1"}
    assert not net[0][1].training
    assert {n for n, p in net.named_parameters() if p.requires_grad and "lora_" not in n} == {"4.weight", "4.bias"}
    torch.testing.assert_close(net(x), output, rtol=0, atol=0)
    trained(net, (16, 3, 16, 16))
    for name, value in net.state_dict().items():
        if "lora_" not in name and not name.startswith("4."):
            assert torch.equal(value, before[name.replace("base_layer.", "")]), name
    adapted = net.eval()(x)
    assert (adapted - output).abs().max() > 0.01
    merge_adapters(net)
    assert net.state_dict().keys() == before.keys()
    torch.testing.assert_close(net(x), adapted, rtol=1e-5, atol=1e-5)


def test_a_convolution_that_pads_by_itself() -> None:
    """With strides, as EfficientNet-Lite's stem."""
    net, x = EfficientNetLite(num_classes=2).eval(), torch.randn(2, 3, 33, 33)
    adapt(net, LoRA(rank=2))
    assert "stem.0" in adapted_layers(net)
    assert len(adapted_layers(net)) == 33  # of 49 convolutions 16 are depthwise
    draw(net)
    with torch.no_grad():
        adapted = net(x)
        merge_adapters(net)
        torch.testing.assert_close(net(x), adapted, rtol=1e-5, atol=1e-5 * float(adapted.abs().max()))


ARCHITECTURES = ["resnet18", "vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "densenet121", "regnet_y_400mf", "maxvit_t"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_adapter_of_torchvision_s_networks_takes_part(name: str) -> None:
    net, x = TorchvisionClassifier(2, name=name).eval(), torch.randn(1, 3, 224, 224)
    adapt(net, LoRA(rank=2))
    draw(net)
    net(x).square().sum().backward()
    for parameter, value in net.named_parameters():
        assert not value.requires_grad or value.grad is not None, parameter
    with torch.no_grad():
        adapted = net(x)
        merge_adapters(net)
        torch.testing.assert_close(net(x), adapted, rtol=1e-4, atol=1e-5 * float(adapted.abs().max()))


def draw(net: nn.Module) -> None:
    """As if the adapters had been trained."""
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.01)


def test_only_the_named_layers() -> None:
    net = network()
    add_adapters(net, LoRA(rank=2, targets=["2.0"]))
    assert adapted_layers(net) == {"2.0"}
    net = convolutions()
    adapt(net, LoRA(rank=2, targets=[".0"]))  # without the depthwise and the dilated ones
    assert adapted_layers(net) == {"0.0"}


def test_layers_that_torch_never_calls_are_left_out() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 2))
    adapt(net, LoRA(rank=2))
    assert adapted_layers(net) == {"0"}


def test_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need rank >= 1"):
        LoRA(rank=0)
    with pytest.raises(UserError, match=r"no linear layer's or convolution's name ends in \['query'\]; there are 0, 3"):
        add_adapters(network(), LoRA(targets=["query"]))
    with pytest.raises(UserError, match=r"1.0 cannot have an adapter: its 8 groups are small already"):
        add_adapters(convolutions(), LoRA(targets=["1.0"]))
    with pytest.raises(UserError, match=r"2.0 cannot have an adapter: peft would leave out its dilation"):
        add_adapters(convolutions(), LoRA(targets=["2.0"]))
    with pytest.raises(UserError, match="Sequential has no stage below its head"):
        adapt(nn.Sequential(nn.Linear(2, 2)), LoRA())
    net = network()
    add_adapters(net, LoRA())
    with pytest.raises(UserError, match="has adapters already"):
        add_adapters(net, LoRA())
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'pip install "fulgurite\[transfer\]"'):
        add_adapters(network(), LoRA())
