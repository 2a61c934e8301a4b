from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from callbacks.freeze import Freeze
from callbacks.pretrained_backbone import PretrainedBackbone
from cli import main
from tests.conformance import CASES, digits
from toolkit.errors import UserError
from toolkit.nn.vit import ViT
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN

CASE = CASES[ImageClassification]


def fitted(task: Any, callback: Callback, **options: Any) -> Trainer:
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip
    trainer.fit(task, datamodule=digits())
    return trainer


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # which is what is meant here
@pytest.mark.parametrize("callback", [PretrainedBackbone(None, freeze=True), Freeze(stages=-1)])
def test_a_class_token_is_frozen_too(callback: Callback) -> None:
    """All but the head is all but the head, whatever lies on the network itself."""
    net = ViT(num_classes=10, in_channels=1, image_size=(8, 8), patch_size=2, dim=12, depth=1, heads=2)
    task = ImageClassification(net, 10)
    before = {name: value.clone() for name, value in task.state_dict().items() if name.startswith("net.")}
    fitted(task, callback, max_epochs=1, limit_train_batches=2)
    moved = {name for name, value in before.items() if not torch.equal(task.state_dict()[name], value)}
    assert moved == {"net.head.weight", "net.head.bias"}


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # which is what is meant here
def test_frozen_means_frozen_statistics_included() -> None:
    """Over several epochs, with validations that put modules back into training mode, and weight decay."""
    task = ImageClassification(
        SmallCNN(in_channels=1, num_classes=10), 10, optimizer=lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5)
    )
    before = {name: value.clone() for name, value in task.state_dict().items() if name.startswith("net.")}
    trainer = fitted(
        task, PretrainedBackbone(None, freeze=True), max_epochs=2, limit_train_batches=4, val_check_interval=2
    )
    assert any("running_mean" in name for name in before)
    for name, value in before.items():
        if name.startswith("net.head."):
            assert not torch.equal(task.state_dict()[name], value)
        else:
            torch.testing.assert_close(task.state_dict()[name], value, rtol=0, atol=0, msg=name)
    (group,) = trainer.optimizers[0].param_groups
    assert len(group["params"]) == 2  # of the head


def test_without_freezing_all_of_it_learns() -> None:
    task = CASE.build(CASE.net())
    before = {name: value.clone() for name, value in task.named_parameters()}
    fitted(task, PretrainedBackbone(None), max_steps=2)
    assert not any(torch.equal(value, before[name]) for name, value in task.named_parameters())


def test_freezing_needs_a_head() -> None:
    task = ImageClassification(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), num_classes=10)
    with pytest.raises(UserError, match="Sequential has no part named head"):
        fitted(task, PretrainedBackbone(None, freeze=True), max_steps=1)


def test_a_resumed_run_does_not_need_the_other_one_s_checkpoint(workdir: Path) -> None:
    quick = ["--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", "--wandb.enabled=false"]
    source = main(["fit", *CASE.arguments, *quick, "--trainer.max_epochs=1"]).run_folder / "checkpoints" / "best.ckpt"
    callback = {"class_path": "PretrainedBackbone", "init_args": {"checkpoint": str(source), "freeze": True}}
    words = [
        "fit",
        *CASE.arguments,
        *quick,
        f"--trainer.callbacks+={callback}".replace("'", '"').replace("True", "true"),
    ]
    whole = main([*words, "--trainer.max_epochs=2"])
    first = main([*words, "--trainer.max_epochs=1"])
    source.unlink()
    resumed = main([*words, "--trainer.max_epochs=2", f"--ckpt_path={first.run_folder / 'checkpoints' / 'last.ckpt'}"])
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
