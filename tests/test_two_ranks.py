"""Two processes on gloo give what one process gives at the same global batch."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conformance import CASES
from tests.conftest import ROOT
from toolkit.task import Task

SAME = [
    # fp64, and a network without BatchNorm or dropout, whose noise or statistics depend on the rank
    "--trainer.precision=64-true",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.log_every_n_steps=5",
    "--wandb.enabled=false",
    "--data.eval_batch_size=50",
    "--test_after_fit=true",
]


def run(arguments: list[str], folder: Path, devices: int) -> Path:
    strategy = "ddp" if devices > 1 else "auto"
    command = [sys.executable, str(ROOT / "cli.py"), "fit", *arguments, *SAME,
               f"--trainer.devices={devices}", f"--trainer.strategy={strategy}", f"--runs={folder}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr
    (run_folder,) = folder.glob("*/*/")
    return run_folder


def metrics(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv") as file:
        rows = [
            {k: float(v) for k, v in row.items() if v and not k.startswith("perf/")} for row in csv.DictReader(file)
        ]
    return [row for row in rows if len(row) > 1]


@pytest.mark.parametrize("task_class", CASES, ids=lambda cls: cls.__name__)
def test_two_ranks_equal_one(task_class: type[Task], tmp_path: Path) -> None:
    arguments = [a for a in CASES[task_class].arguments if "model.net" not in a]
    arguments += [a for a in CASES[task_class].arguments if a.startswith("--model.net.num_classes")]
    arguments += ["--model.net=MLP"] if not any("model.net=" in a for a in arguments) else []
    arguments += CASES[task_class].uneven
    arguments.sort(key=lambda a: a.startswith("--model.net."))  # the class before its arguments
    one, two = run(arguments, tmp_path / "one", 1), run(arguments, tmp_path / "two", 2)
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, two))
    for name, weight in a["state_dict"].items():
        torch.testing.assert_close(weight, b["state_dict"][name], rtol=0, atol=1e-12, msg=name)
    rows_one, rows_two = metrics(one), metrics(two)
    assert len(rows_one) == len(rows_two) > 4
    assert any("test/loss" in row for row in rows_one)
    for x, y in zip(rows_one, rows_two, strict=True):
        assert x == pytest.approx(y, rel=1e-5, abs=1e-9)  # torchmetrics sums calibration errors in fp32
