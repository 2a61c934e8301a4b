import re
import sys
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import callbacks.progress
from callbacks.progress import LineProgress, TerminalProgress, make_progress_bar
from datamodules.digits import DigitsDataModule
from toolkit.nn.mlp import MLP
from toolkit.vision.image_classification import ImageClassification


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.net(batch[0]).square().mean() + 2
        self.log("train/loss", loss * 0 + 0.12345)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", 0.5)
        self.log("val/unasked", 0.5)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        pass

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return batch[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        while True:
            yield [torch.zeros(1, 1)]


def loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(3, 1)))


def trainer(bar: ProgressBar | None = None, **options: Any) -> Trainer:
    return Trainer(callbacks=bar or LineProgress(), logger=False, accelerator="cpu", enable_checkpointing=False,
                   enable_model_summary=False, **options)  # fmt: skip


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks.progress, "SECONDS_BETWEEN_LINES", -1.0)


def test_one_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(max_epochs=10).fit(Plain(), loader(), loader())
    out = capsys.readouterr().out
    assert "\r" not in out
    lines = out.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"epoch  1/10  train/loss 0\.1235  val/loss 0\.5  \d+\.\d s", lines[0])
    assert lines[9].startswith("epoch 10/10  ")


def test_the_monitored_metric_of_a_task_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With the last epoch's own numbers: the mean over the epoch is logged after its callbacks."""
    task = ImageClassification(MLP(in_channels=1, image_size=(8, 8), num_classes=10, hidden=[4]), num_classes=10)
    run = trainer(max_epochs=2, limit_train_batches=3, limit_val_batches=1, log_every_n_steps=50)
    run.fit(task, datamodule=DigitsDataModule())
    metrics = run.callback_metrics
    expected = [f"{name} {float(metrics[key]):.4g}" for name, key in
                (("train/loss", "train/loss_epoch"), ("val/loss", "val/loss"), ("val/acc", "val/acc"))]  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split("  ")[:-1] == ["epoch 2/2", *expected]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"fast_dev_run": True}, ["epoch 1/1"]),
        ({"limit_val_batches": 0, "max_epochs": 1}, ["epoch 1/1"]),
        ({"max_steps": 4, "max_epochs": -1}, ["epoch 1", "epoch 2"]),
        ({"max_epochs": 0}, []),
    ],
)
def test_unusual_lengths(options: dict[str, Any], lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    trainer(**options).fit(Plain(), loader(), loader())
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == lines


@pytest.mark.usefixtures("talkative")
def test_a_long_epoch_reports_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(max_epochs=1, limit_val_batches=0).fit(Plain(), loader(), loader())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines[:3]] == [["epoch 1/1", f"step {k}/3"] for k in (1, 2, 3)]
    assert len(lines) == 4


@pytest.mark.usefixtures("talkative")
def test_an_endless_epoch_reports_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(max_steps=2, limit_val_batches=0).fit(Plain(), DataLoader(Endless(), batch_size=None), loader())
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()[:2]] == ["step 1", "step 2"]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_a_short_evaluation_is_silent(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {} if verb == "predict" else {"verbose": False}
    getattr(trainer(), verb)(Plain(), loader(), **options)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize(("verb", "word"), [("validate", "validation"), ("test", "test"), ("predict", "predict")])
def test_a_long_evaluation_is_not(verb: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {} if verb == "predict" else {"verbose": False}
    getattr(trainer(), verb)(Plain(), loader(), **options)
    assert capsys.readouterr().out.splitlines() == [f"{word}  step {k}/3" for k in (1, 2, 3)]


@pytest.mark.usefixtures("talkative")
def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    bar = LineProgress()
    bar.disable()
    trainer(bar, max_epochs=1).fit(Plain(), loader(), loader())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("terminal", "kind"), [(True, TerminalProgress), (False, LineProgress)])
def test_a_bar_only_for_who_watches(terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert type(make_progress_bar()) is kind


def test_the_bar_runs_without_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(TerminalProgress(), max_epochs=2)
    run.fit(Plain(), loader(), loader())
    run.validate(Plain(), loader(), verbose=False)
    out = capsys.readouterr().out
    assert "epoch 2/2" in out
    assert "train/loss: 0.1235" in re.sub(r"\s+", " ", out)
    assert "v_num" not in out
