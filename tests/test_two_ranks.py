"""A global batch on two ranks, or accumulated, or both, gives what it gives in one piece."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import forked
from tests.conformance import CASES
from toolkit.task import Task

SAME = [
    # fp64, and a network without BatchNorm or dropout, whose noise or statistics depend on the rank
    "--trainer.precision=64-true",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--wandb.enabled=false",
    "--data.eval_batch_size=50",
    "--test_after_fit=true",
]
PIECES = {
    # all of them steps of 120 samples, which divide neither the 1,257 for training nor the 270 of an evaluation
    "one": ["--data.batch_size=120", "--trainer.log_every_n_steps=3"],
    "two ranks": ["--data.batch_size=120", "--trainer.log_every_n_steps=3", "--trainer.devices=2"],
    "accumulation": ["--data.batch_size=60", "--trainer.accumulate_grad_batches=2", "--trainer.log_every_n_steps=3"],
    "both": ["--data.batch_size=40", "--trainer.accumulate_grad_batches=3", "--trainer.log_every_n_steps=3",
             "--trainer.devices=2"],
}  # fmt: skip


def run(arguments: list[str], folder: Path) -> Path:
    strategy = "ddp" if "--trainer.devices=2" in arguments else "auto"
    words = sorted([*SAME, *arguments], key=lambda word: word.split("=")[0].count("."))  # a class before its arguments
    command = ["fit", *words, f"--trainer.strategy={strategy}", f"--runs={folder}"]
    if strategy == "auto":
        command.append("--trainer.devices=1")
    done = forked.run(command, ranks=1 if strategy == "auto" else 2)
    assert done.returncode == 0, done.stderr
    (run_folder,) = folder.glob("*/*/")
    return run_folder


def metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv but for speed and for the step: pieces of a batch are counted, too."""
    with open(folder / "metrics.csv") as file:
        rows = [
            {k: float(v) for k, v in row.items() if v and not k.startswith("perf/")} for row in csv.DictReader(file)
        ]
    return [row for row in rows if len(row) > 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Task]], Path]:
    """The run in one piece of each task."""
    made: dict[type[Task], Path] = {}

    def get(task_class: type[Task]) -> Path:
        if task_class not in made:
            made[task_class] = run([*arguments_of(task_class), *PIECES["one"]], tmp_path_factory.mktemp("one"))
        return made[task_class]

    return get


def arguments_of(task_class: type[Task]) -> list[str]:
    case = CASES[task_class]
    if case.without_noise is not None:
        return [*case.without_noise, *case.uneven]
    arguments = [a for a in case.arguments if "model.net" not in a]
    arguments += [a for a in case.arguments if a.startswith("--model.net.num_classes")]
    arguments += ["--model.net=MLP"] if not any("model.net=" in a for a in arguments) else []
    return [*arguments, *case.uneven]


# Other tasks accumulate by an argument of their own (tests/toolkit/test_manual_task.py), or compare a batch.
# Accumulation alone is slow by default: "both" has it, and on two ranks.
CELLS = [
    pytest.param(
        task, pieces, id=f"{task.__name__}-{pieces}", marks=[pytest.mark.slow] if pieces == "accumulation" else []
    )
    for task, case in CASES.items()
    if case.shards
    for pieces in ("two ranks", *(("accumulation", "both") if case.accumulates else ()))
]


@pytest.mark.parametrize(("task_class", "pieces"), CELLS)
def test_a_batch_in_pieces_equals_one_piece(
    task_class: type[Task], pieces: str, whole: Callable[[type[Task]], Path], tmp_path: Path
) -> None:
    one, other = whole(task_class), run([*arguments_of(task_class), *PIECES[pieces]], tmp_path)
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, other))
    assert a["global_step"] == b["global_step"] >= 18
    for name, weight in a["state_dict"].items():
        torch.testing.assert_close(weight, b["state_dict"][name], rtol=0, atol=1e-12, msg=name)
    rows_one, rows_other = metrics(one), metrics(other)
    assert len(rows_one) == len(rows_other) > 4
    assert any("test/loss" in row for row in rows_one)
    for x, y in zip(rows_one, rows_other, strict=True):
        assert x == pytest.approx(y, rel=1e-6, abs=1e-6)
