"""A frozen layer that stays is let through, one that moves ends the run, also across a resume."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from callbacks.frozen_audit import FrozenAudit, frozen_tensors
from datamodules.digits import DigitsDataModule
from toolkit.errors import UserError
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # which is what is meant here


class Backbone(nn.Module):
    """A frozen convolution and BatchNorm below a head that trains."""

    def __init__(self, statistics_frozen: bool) -> None:
        super().__init__()
        self.statistics_frozen = statistics_frozen
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).requires_grad_(False)
        self.head = nn.Linear(4 * 36, 10)
        self.train()  # Lightning keeps the modes that a network comes with

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        self.body.train(mode and not self.statistics_frozen)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x))
        return logits


def fit(net: nn.Module, epochs: int, ckpt_path: Path | None = None) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[FrozenAudit()],
    )  # fmt: skip
    task = ImageClassification(net, num_classes=10)
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=32), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_what_stays_is_let_through_and_the_rest_trains() -> None:
    net = Backbone(statistics_frozen=True)
    frozen = {name: tensor.clone() for name, tensor in frozen_tensors(net)}
    head = net.head.weight.clone()
    fit(net, 2)
    assert set(frozen) == {f"body.0.{n}" for n in ("weight", "bias")} | {
        f"body.1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in frozen_tensors(net))
    assert not torch.equal(net.head.weight, head)


def test_statistics_that_move_end_the_run() -> None:
    with pytest.raises(UserError, match=r"3 of 7 frozen tensors moved in epoch 0: net.body.1.running_mean"):
        fit(Backbone(statistics_frozen=False), 1)


def test_a_weight_that_moves_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Backbone(statistics_frozen=True)
    head = net.head.forward

    def moving(x: torch.Tensor) -> torch.Tensor:
        net.body[0].weight.data.add_(1e-7)
        return head(x)

    monkeypatch.setattr(net.head, "forward", moving)
    with pytest.raises(UserError, match=r"1 of 7 frozen tensors moved in epoch 0: net.body.0.weight"):
        fit(net, 1)


def test_an_unfrozen_layer_leaves_the_list() -> None:
    net, audit = Backbone(statistics_frozen=True), FrozenAudit()
    audit._audit(net, "")
    net.body.requires_grad_(True)
    net.body[0].weight.data.add_(1)
    audit._audit(net, "")
    assert audit.state_dict() == {}


def test_a_resumed_run_is_held_to_the_run_before(tmp_path: Path) -> None:
    path = tmp_path / "first.ckpt"
    fit(Backbone(statistics_frozen=True), 1).save_checkpoint(path)
    fit(Backbone(statistics_frozen=True), 2, path)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["net.body.0.weight"].add_(1)
    torch.save(content, path)
    with pytest.raises(UserError, match=r"moved since the checkpoint was written: net.body.0.weight"):
        fit(Backbone(statistics_frozen=True), 2, path)


class Colored(nn.Module):
    """Grey digits of 8x8 for a network that expects larger pictures in color."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(x.repeat(1, 3, 4, 4))
        return logits


def test_a_frozen_torchvision_backbone_stays(tmp_path: Path) -> None:
    """Its BatchNorm statistics too, in a fit that never calls ``train()`` on the network."""
    path = tmp_path / "resnet18.pt"
    torch.save(TorchvisionClassifier(num_classes=10, name="resnet18").backbone.state_dict(), path)
    net = TorchvisionClassifier(num_classes=10, name="resnet18", weights=str(path), freeze_backbone=True)
    fit(Colored(net), 1)
