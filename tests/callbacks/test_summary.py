import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.summary import RunSummary
from toolkit.types import Baseline

NAIVE = Baseline("majority class", {"acc": 0.1})


def stopped(score: float | None) -> Any:
    """A Trainer after its training."""
    value = None if score is None else torch.tensor(score)
    return SimpleNamespace(checkpoint_callback=SimpleNamespace(monitor="val/acc", best_model_score=value))


def checkpoint(folder: Path, name: str) -> str:
    """A checkpoint in a run folder."""
    file = folder / "checkpoints" / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    return str(file)


def line(summary: RunSummary, label: str) -> str:
    lines = summary.lines(None, "python cli.py list")
    (found,) = [text.removeprefix(label).strip() for text in lines if text.startswith(f"{label} ")]
    return found


def test_a_fit_is_measured(tmp_path: Path) -> None:
    summary, model = RunSummary(tmp_path), BoringModel()
    before = time.time()
    trainer = Trainer(
        max_epochs=2, limit_train_batches=4, limit_val_batches=0, accumulate_grad_batches=2, accelerator="cpu",
        callbacks=[summary], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model)
    values = summary.values
    assert (values["epochs"], values["steps"]) == (2, 4)
    assert values["parameters"] == 32 * 2 + 2
    assert before < values["first_step_at"] < time.time()
    assert 0 < values["train_wall_seconds"] < time.time() - before
    assert values["train_cpu_seconds"] > 0


def test_the_file_holds_what_the_lines_say(tmp_path: Path) -> None:
    summary, best = RunSummary(tmp_path), checkpoint(tmp_path, "best.ckpt")
    summary.values |= {"train_wall_seconds": 12.34, "steps": 40}
    summary.add_best(stopped(0.75), NAIVE)
    summary.add_test({"test/acc": torch.tensor(0.5), "test/loss": 1.25}, Baseline("majority class", {"acc": 0.125}))  # type: ignore[dict-item]
    summary.write()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoints", "summary.json"]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written.pop("process_cpu_seconds") > 0
    assert written == {
        "train_wall_seconds": 12.34, "steps": 40, "monitor": "val/acc", "best": 0.75, "checkpoint": best,
        "baseline": "majority class", "baseline/val/acc": 0.1, "baseline/test/acc": 0.125, "test/acc": 0.5, "test/loss": 1.25,
    }  # fmt: skip
    assert summary.lines("wandb sync x", "python cli.py predict ...") == [
        f"run         {tmp_path}",
        "best        val/acc 0.7500 (majority class 0.1000)",
        "test        test/acc 0.5000 (majority class 0.1250), test/loss 1.2500",
        "training    12.3 s, 40 steps",
        f"checkpoint  {best}",
        "wandb       wandb sync x",
        "next        python cli.py predict ...",
    ]


@pytest.mark.parametrize(("stage", "other"), [("val", "test"), ("test", "val")])
def test_an_evaluation_stands_beside_the_baseline_of_its_split(stage: str, other: str, tmp_path: Path) -> None:
    """`validate` reports through the same door as `test`."""
    summary = RunSummary(tmp_path)
    summary.add_test({f"{stage}/acc": 0.5, f"{stage}/loss": 2.0}, NAIVE)
    assert summary.scored(f"{stage}/acc", 0.5) == f"{stage}/acc 0.5000 (majority class 0.1000)"
    assert summary.scored(f"{stage}/loss", 2.0) == f"{stage}/loss 2.0000"
    assert summary.scored(f"{other}/acc", 0.5) == f"{other}/acc 0.5000"


def test_a_run_that_was_not_validated_names_its_last_checkpoint(tmp_path: Path) -> None:
    summary, last = RunSummary(tmp_path), checkpoint(tmp_path, "last.ckpt")
    summary.add_best(stopped(None), None)
    assert summary.values["best"] is None
    assert line(summary, "checkpoint") == last
    assert not any(text.startswith(("best", "test", "training")) for text in summary.lines(None, "x"))


@pytest.mark.parametrize("trainer", [SimpleNamespace(checkpoint_callback=None), stopped(0.5)], ids=["off", "unwritten"])
def test_a_run_without_checkpoints_says_so(trainer: Any, tmp_path: Path) -> None:
    summary = RunSummary(tmp_path)
    summary.add_best(trainer, NAIVE)
    assert (line(summary, "checkpoint"), line(summary, "wandb")) == ("none", "off")


def test_a_zero_is_a_score(tmp_path: Path) -> None:
    summary = RunSummary(tmp_path)
    summary.add_best(stopped(0.0), Baseline("mean", {"acc": 0.0}))
    assert line(summary, "best") == "val/acc 0.0000 (mean 0.0000)"
