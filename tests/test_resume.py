"""A real process is killed anywhere, resumed, and ends with the same bits as one that was left alone."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.conftest import ROOT

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "ImageClassification",
        "init_args": {
            # BatchNorm, dropout, keyed augmentation and mixing: all that is random or has a state
            "net": {"class_path": "SmallCNN", "init_args": {"widths": [8, 16], "dropout": 0.3}},
            "augment": {
                "class_path": "Augmentation",
                "init_args": {"transforms": [{"class_path": "RandomCrop", "init_args": {"padding": 1}}]},
            },
            "mix": {"class_path": "Mixup"},
            "scheduler": {"class_path": "WarmupCosine"},
        },
    },
    "data": {"class_path": "DigitsDataModule", "init_args": {"batch_size": 60, "eval_batch_size": 60}},
    "trainer": {
        "max_epochs": 4,
        "accelerator": "cpu",
        "log_every_n_steps": 3,
        "val_check_interval": 10,
        "callbacks": [
            {"class_path": "callbacks.ema.EMA", "init_args": {"decay": 0.9}},
            {"class_path": "tests.test_resume.Ledger"},
        ],
    },
    "wandb": {"enabled": False},
}


class Ledger(Callback):
    """Writes what each step was trained on and what came out; kills its own process where ``KILL_AT`` says."""

    def __init__(self) -> None:
        where = os.environ.get("KILL_AT", "")
        self.hook, _, number = where.partition(":")
        self.left = int(number or 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in ("on_train_batch_start", "on_validation_batch_end", "on_save_checkpoint", "on_train_epoch_end"):
            if name == self.hook:
                setattr(self, name, self._count)

    def _count(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.hook == "on_train_batch_end":
            self._count()
        row = [trainer.current_epoch, batch_idx, outputs["loss"].item().hex(), *batch.index.tolist()]
        with open(os.environ["LEDGER"] + str(trainer.global_rank), "a") as file:
            file.write(" ".join(map(str, row)) + "\n")


def run(words: list[str], folder: Path, kill_at: str = "") -> int:
    env = os.environ | {"KILL_AT": kill_at, "LEDGER": str(folder / "ledger"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=240)
    assert done.returncode == 0 or kill_at, done.stderr
    return done.returncode


def fit(folder: Path, options: list[str], kill_at: str = "") -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    code = run(["fit", "--config", str(folder / "config.yaml"), f"--runs={folder / 'runs'}", *options], folder, kill_at)
    assert code == (-signal.SIGKILL if kill_at else 0)
    (run_folder,) = (folder / "runs").glob("*/*/")
    return run_folder


def steps(folder: Path) -> dict[tuple[str, str], str]:
    """The ledger by (epoch, batch); a step that was made twice must have been the same twice."""
    made: dict[tuple[str, str], str] = {}
    for file in folder.glob("ledger*"):
        rank = file.name[-1]
        for line in file.read_text().splitlines():
            epoch, batch, rest = line.split(" ", 2)
            assert made.setdefault((epoch, batch + "/" + rank), rest) == rest, f"epoch {epoch}, batch {batch}"
    return made


def same(one: Path, other: Path) -> None:
    """Equal weights, averages, optimizer, scheduler and metrics, bit for bit."""
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, other))
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_equal(a[key], b[key], key)
    rows = []
    for folder in (one, other):
        with open(folder / "metrics.csv") as file:
            content = [
                {k: v for k, v in row.items() if v and not k.startswith("perf/")} for row in csv.DictReader(file)
            ]
        rows.append([row for row in content if len(row) > 1])
    assert rows[0] == rows[1]
    assert not list((other / "checkpoints").glob(".*"))


def assert_equal(a: Any, b: Any, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{number}]")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, fit(folder, [])


@pytest.mark.parametrize(
    "kill_at",
    [
        "on_train_batch_start:26",
        "on_train_batch_end:47",
        "on_validation_batch_end:11",
        "on_save_checkpoint:5",
        "on_train_epoch_end:2",
    ],
)
def test_killed_and_resumed_equals_whole(kill_at: str, whole: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = fit(folder, [], kill_at)
    run(["resume", str(killed)], folder)
    assert len(list((folder / "runs").glob("*/*/"))) == 1
    assert steps(folder) == steps(whole[0])
    same(whole[1], killed)
