"""Adapters: the network begins as it was, its own weights stay, and merging changes no output."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from callbacks.frozen_audit import frozen_tensors
from toolkit.errors import UserError
from toolkit.nn.lora import LoRA, add_adapters, merge_adapters


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 2))


def trained(net: nn.Module) -> None:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        net(torch.randn(16, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


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


def test_only_the_named_layers() -> None:
    net = network()
    add_adapters(net, LoRA(rank=2, targets=["2.0"]))
    assert {name.partition(".lora_")[0] for name, p in net.named_parameters() if p.requires_grad} == {"2.0"}


def test_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need rank >= 1"):
        LoRA(rank=0)
    with pytest.raises(UserError, match=r"no linear layer's or convolution's name ends in \['query'\]; there are 0, 3"):
        add_adapters(network(), LoRA(targets=["query"]))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'pip install "fulgurite\[transfer\]"'):
        add_adapters(network(), LoRA())
