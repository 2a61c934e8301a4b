from typing import Any

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.optim.muon_adamw import MuonAdamW


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def groups(net: nn.Module) -> list[dict[str, Any]]:
    weights = list(net.parameters())
    return [
        {"params": [w for w in weights if w.ndim == 2], "hidden": True},
        {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
    ]


def train(net: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        net.zero_grad()
        net(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def test_it_moves_weights_as_torch_s_two_optimizers() -> None:
    ours, theirs = network(), network()
    train(ours, [MuonAdamW(groups(ours), lr=0.02, weight_decay=0.3)], range(4))
    hidden, others = groups(theirs)
    muon = torch.optim.Muon(hidden["params"], lr=0.02, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others["params"], lr=0.02, betas=(0.9, 0.95), weight_decay=0.0, foreach=True)
    train(theirs, [muon, adamw], range(4))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_moves_both_rates() -> None:
    net = network()
    optimizer = MuonAdamW(groups(net), lr=0.02)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = [weight.clone() for weight in net.parameters()]
    train(net, [optimizer], range(1))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_state_survives_a_checkpoint() -> None:
    whole, halves = network(), network()
    train(whole, [MuonAdamW(groups(whole))], range(6))
    first = MuonAdamW(groups(halves))
    train(halves, [first], range(3))
    second = MuonAdamW(groups(halves))
    second.load_state_dict(first.state_dict())
    train(halves, [second], range(3, 6))
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


def test_no_marked_group_is_an_error() -> None:
    with pytest.raises(UserError, match="hidden"):
        MuonAdamW(network().parameters())
