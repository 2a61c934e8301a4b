from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from callbacks.online_knn import OnlineKNN
from callbacks.online_probe import OnlineLinearProbe
from cli import main
from datamodules.digits import DigitsDataModule
from tests.conformance import CASES
from toolkit.errors import UserError
from toolkit.selfsupervised.simclr import SimCLR
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification

PROBES = '{"class_path": "OnlineLinearProbe"}'


def fitted(task: Task, *callbacks: Callback, **options: Any) -> Trainer:
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=64))
    return trainer


def weights_after(*callbacks: Callback) -> dict[str, Tensor]:
    torch.manual_seed(3)
    task = CASES[SimCLR].build(CASES[SimCLR].net())
    fitted(task, *callbacks, max_steps=6, val_check_interval=3)
    return task.state_dict()


def test_probes_change_nothing_of_the_encoder() -> None:
    """Neither weights nor BatchNorm's statistics nor, by a generator, its dropout: all end with the same bits."""
    alone, watched = weights_after(), weights_after(OnlineKNN(bank_size=100), OnlineLinearProbe())
    assert any("running_mean" in name for name in alone)
    for (name, a), b in zip(alone.items(), watched.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_probes_give_the_encoder_no_gradient_and_put_each_module_s_mode_back() -> None:
    class Check(Callback):
        """Runs after the probe, and finds the encoder as the training step left it."""

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            assert all(parameter.grad is None for parameter in pl_module.parameters())
            assert pl_module.net.training
            assert not pl_module.backbone.layers[0].training
            self.seen = True

    class ZeroGradients(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            pl_module.backbone.layers[0].eval()

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            pl_module.zero_grad()

    check = Check()
    fitted(CASES[SimCLR].build(CASES[SimCLR].net()), ZeroGradients(), OnlineLinearProbe(), check, max_steps=2)
    assert check.seen


def test_the_probe_learns_and_reads_more_than_the_majority_class() -> None:
    trainer = fitted(CASES[SimCLR].build(CASES[SimCLR].net()), OnlineKNN(), OnlineLinearProbe(lr=0.02), max_epochs=4)
    assert float(trainer.callback_metrics["val/probe_acc"]) > 0.6
    assert float(trainer.callback_metrics["val/knn_acc"]) > 0.8


def test_a_resumed_probe_goes_on_exactly(workdir: Path) -> None:
    words = ["fit", *CASES[SimCLR].arguments, "--trainer.limit_train_batches=4", "--trainer.accelerator=cpu",
             "--trainer.max_epochs=2", "--wandb.enabled=false", f"--trainer.callbacks+={PROBES}"]  # fmt: skip
    whole = main(words)
    first = main([*words, "--trainer.max_epochs=1"])
    second = main([*words, f"--ckpt_path={first.run_folder / 'checkpoints' / 'last.ckpt'}"])
    a, b = (
        torch.load(made.run_folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["OnlineLinearProbe"]
        for made in (whole, second)
    )
    assert a["probe"]["weight"].abs().sum() > 0
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    values = [float(made.trainer.callback_metrics["val/probe_acc"]) for made in (whole, second)]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OnlineLinearProbe(lr=0.0), "need lr > 0 and every_n_steps >= 1, got 0.0 and 1"),
        (lambda: OnlineKNN(neighbours=0), "need neighbours >= 1"),
    ],
)
def test_numbers_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize("callback", [OnlineKNN(), OnlineLinearProbe()], ids=lambda callback: type(callback).__name__)
def test_a_task_that_is_no_encoder_is_refused(callback: Callback) -> None:
    case = CASES[ImageClassification]
    with pytest.raises(UserError, match="measures an encoder such as SimCLR, got ImageClassification"):
        fitted(case.build(case.net()), callback, max_steps=1)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_probe_may_be_made_more_seldom(accumulated: int) -> None:
    """Of six optimizer steps, the third and the sixth."""
    probe = OnlineLinearProbe(every_n_steps=3)
    fitted(CASES[SimCLR].build(CASES[SimCLR].net()), probe, max_steps=6, accumulate_grad_batches=accumulated)
    assert {int(state["step"]) for state in probe.state_dict()["optimizer"]["state"].values()} == {2}
