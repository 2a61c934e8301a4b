"""A real process is killed anywhere, resumed, and ends with the same bits as one that was left alone."""

import csv
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.preemption import EXIT_CODE
from cli import main
from tests import forked
from tests.conformance import CASES
from tests.conftest import ROOT
from tests.forked import quick_starts  # noqa: F401  # a fixture
from toolkit.checkpoint_io import has_changed
from toolkit.task import Task

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
    "test_after_fit": True,
}


class Ledger(Callback):
    """Writes what each step was trained on and what came out; kills its own process where ``KILL_AT`` says."""

    def __init__(self) -> None:
        where = os.environ.get("KILL_AT", "")
        self.hook, _, number = where.partition(":")
        self.left = int(number or 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in (
            *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
            *("on_before_optimizer_step", "on_validation_batch_end", "on_save_checkpoint", "on_train_epoch_end"),
        ):
            if name == self.hook:
                setattr(self, name, self._count)

    def _count(self, *args: Any) -> None:
        self.left -= 1
        only = os.environ.get("KILL_RANK")
        if self.left == 0 and only in (None, os.environ.get("LOCAL_RANK", "0")):
            number = signal.Signals[os.environ.get("KILL_WITH", "SIGKILL")]
            if number == signal.SIGKILL and only is None:
                os.killpg(0, number)  # all ranks
            else:
                Path(os.environ["LEDGER"]).with_name("told").write_text(str(time.time()))
                os.kill(os.getpid(), number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.hook == "on_train_batch_end":
            self._count()
        row = [trainer.current_epoch, batch_idx, outputs["loss"].item().hex(), *batch.index.tolist()]
        with open(os.environ["LEDGER"] + str(trainer.global_rank), "a") as file:
            file.write(" ".join(map(str, row)) + "\n")


def run(words: list[str], folder: Path, kill_at: str = "") -> int:
    kill_at, _, kill_with = kill_at.partition(" ")
    env = os.environ | {
        "KILL_AT": kill_at,
        "KILL_WITH": kill_with or "SIGKILL",
        "LEDGER": str(folder / "ledger"),
        "OMP_NUM_THREADS": "1",
    }
    done = forked.run(words, env=env)
    assert done.returncode == 0 or kill_at, done.stderr
    return done.returncode


def fit(folder: Path, options: list[str], kill_at: str = "") -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    code = run(["fit", "--config", str(folder / "config.yaml"), f"--runs={folder / 'runs'}", *options], folder, kill_at)
    assert code == ((EXIT_CODE if " " in kill_at else -signal.SIGKILL) if kill_at else 0)
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


def same(one: Path, other: Path, ignoring_tests: bool = False) -> None:
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
    if ignoring_tests:  # those of a run that was extended include the first test
        rows = [[row for row in content if "test/acc" not in row] for content in rows]
    assert rows[0] == rows[1]
    if ignoring_tests:
        return
    assert "test/acc" in rows[0][-1]
    assert any("val/acc" in row for row in rows[0][-10:])
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


class Cell(NamedTuple):
    """How a run is made."""

    ranks: int = 1
    workers: int = 0
    accumulate: int = 1

    def options(self) -> list[str]:
        several = [f"--trainer.devices={self.ranks}", "--trainer.strategy=ddp"] if self.ranks > 1 else []
        return [
            *several, f"--data.num_workers={self.workers}", f"--trainer.accumulate_grad_batches={self.accumulate}"
        ]  # fmt: skip


PLACES = [
    "on_train_batch_start:26",
    "on_train_batch_end:47",
    "on_validation_batch_end:11",
    "on_save_checkpoint:5",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell], tuple[Path, Path]]:
    """A run of each kind that was left alone: its folder for the ledger, and its run folder."""
    made: dict[Cell, tuple[Path, Path]] = {}

    def get(cell: Cell) -> tuple[Path, Path]:
        if cell not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            made[cell] = folder, fit(folder, cell.options())
        return made[cell]

    return get


def check(cell: Cell, kills: list[str], whole: Callable[[Cell], tuple[Path, Path]], tmp_path: Path) -> None:
    """Kill a run at each place in turn, resume it after each, and compare with the whole one."""
    folder = tmp_path / "run"
    first, *more = kills
    killed = fit(folder, cell.options(), first)
    for place in more:
        assert run(["resume", str(killed)], folder, place) == -signal.SIGKILL
    run(["resume", str(killed)], folder)
    assert len(list((folder / "runs").glob("*/*/"))) == 1
    ledger, run_folder = whole(cell)
    assert steps(folder) == steps(ledger)
    same(run_folder, killed)


slowly = [pytest.mark.slow]


@pytest.mark.parametrize("kill_at", [PLACES[0], PLACES[2], *(pytest.param(p, marks=slowly) for p in PLACES[1::2])])
def test_killed_and_resumed_equals_whole(kill_at: str, whole: Any, tmp_path: Path) -> None:
    check(Cell(), [kill_at], whole, tmp_path)


def test_three_kills_in_a_row(whole: Any, tmp_path: Path) -> None:
    check(Cell(), ["on_train_batch_end:23", "on_validation_batch_end:8", "on_train_batch_start:19"], whole, tmp_path)


def test_killed_while_checkpoints_are_written_in_a_thread(whole: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = fit(folder, ["--checkpoint.asynchronous=true", "--checkpoint.every_n_steps=3"], "on_train_batch_end:47")
    run(["resume", str(killed)], folder)
    ledger, run_folder = whole(Cell())
    assert steps(folder) == steps(ledger)
    same(run_folder, killed)


@pytest.mark.usefixtures("quick_starts")
@pytest.mark.parametrize("task_class", CASES, ids=lambda cls: cls.__name__)
def test_every_task_killed_and_resumed(
    task_class: type[Task], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step's samples, loss and weights, and the last checkpoint, as `verify-resume` compares them."""
    monkeypatch.chdir(ROOT)  # where examples lie
    (tmp_path / "config.yaml").write_text("{}\n")
    words = ["--config", str(tmp_path / "config.yaml"), *CASES[task_class].arguments, "--steps=14", "--kill_after=8"]
    equal = main(["verify-resume", *words, "--trainer.accelerator=cpu", "--wandb.enabled=false"])
    assert equal, capsys.readouterr().out


def test_a_run_that_max_steps_cut_short_is_extended(tmp_path: Path) -> None:
    """In the middle of an epoch of 20 steps."""
    steady = ["--model.scheduler=null", "--trainer.max_epochs=null"]
    whole = fit(tmp_path / "whole", [*steady, "--trainer.max_steps=50"])
    extended = fit(tmp_path / "run", [*steady, "--trainer.max_steps=27"])
    run(["resume", str(extended), "--trainer.max_steps=50"], tmp_path / "run")
    assert steps(tmp_path / "run") == steps(tmp_path / "whole")
    same(whole, extended, ignoring_tests=True)


def test_killed_with_two_ranks_workers_and_accumulation(whole: Any, tmp_path: Path) -> None:
    check(Cell(ranks=2, workers=2, accumulate=4), ["on_train_batch_end:47"], whole, tmp_path)


@pytest.mark.parametrize(
    ("cell", "kill_at"),
    [
        (Cell(), "on_train_batch_start:26 SIGTERM"),
        pytest.param(Cell(accumulate=4), "on_train_batch_end:45 SIGUSR1", marks=slowly),
        (Cell(), "on_validation_batch_end:8 SIGTERM"),
        (Cell(accumulate=4), "on_validation_batch_end:8 SIGTERM"),  # after 30 batches, so with the gradients of two
        pytest.param(Cell(), "on_save_checkpoint:3 SIGINT", marks=slowly),
        pytest.param(Cell(ranks=2), "on_train_batch_end:31 SIGTERM", marks=slowly),
    ],
    ids=str,
)
def test_a_signal_ends_in_an_exact_checkpoint_and_exit_code_75(
    cell: Cell, kill_at: str, whole: Any, tmp_path: Path
) -> None:
    check(cell, [kill_at], whole, tmp_path)


def test_a_validation_is_left_in_a_run_that_was_resumed(whole: Any, tmp_path: Path) -> None:
    """Lightning, which counts batches that were dealt and not trained on, would log it a step late."""
    folder = tmp_path / "run"
    left = fit(folder, [], "on_train_batch_end:6 SIGTERM")
    assert run(["resume", str(left)], folder, "on_validation_batch_end:5 SIGTERM") == EXIT_CODE
    run(["resume", str(left)], folder)
    ledger, run_folder = whole(Cell())
    assert steps(folder) == steps(ledger)
    same(run_folder, left)


CELLS = [Cell(ranks, workers, accumulate) for ranks in (1, 2) for workers in (0, 2) for accumulate in (1, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.ranks}r-{cell.workers}w-{cell.accumulate}a")
@pytest.mark.parametrize("number", range(3))
def test_every_cell_killed_anywhere(cell: Cell, number: int, whole: Any, tmp_path: Path) -> None:
    """24 random places, three a cell."""
    draw = random.Random(CELLS.index(cell) * 3 + number)
    hook, last = draw.choice([("on_train_batch_start", 79), ("on_train_batch_end", 79), ("on_validation_batch_end", 20),
                              ("on_save_checkpoint", 4), ("on_train_epoch_end", 4)])  # fmt: skip
    check(cell, [f"{hook}:{draw.randint(1, last)}"], whole, tmp_path)


@pytest.mark.slow
def test_another_number_of_ranks_repeats_and_drops_no_sample(tmp_path: Path) -> None:
    """Two ranks, one, two again; in fp64 and without BatchNorm, dropout and mixup, whose noise is a rank's own."""
    plain = ["--model.net=MLP", "--model.net.dropout=0", "--model.mix=null", "--trainer.precision=64-true"]
    two = [*plain, *Cell(ranks=2).options()]
    whole = fit(tmp_path / "whole", [*plain, *Cell().options()])
    folder = tmp_path / "run"
    killed = fit(folder, two, "on_train_batch_end:33")
    one = ["--trainer.devices=1", "--trainer.strategy=auto"]
    assert run(["resume", str(killed), *one], folder, "on_train_batch_end:25") == -signal.SIGKILL
    run(["resume", str(killed), *Cell(ranks=2).options()], folder)
    a, b = (torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True) for run_folder in (whole, killed))
    for name, weight in a["current_model_state"].items():
        torch.testing.assert_close(weight, b["current_model_state"][name], rtol=0, atol=1e-12, msg=name)
    seen: dict[tuple[str, str], set[str]] = {}
    for file in folder.glob("ledger*"):
        for epoch, batch, _, *samples in map(str.split, file.read_text().splitlines()):
            seen.setdefault((epoch, batch), set()).update(samples)
    assert len(seen) == 4 * 20
    assert all(len(samples) == 60 for samples in seen.values())
    for epoch in "0123":
        of_epoch = [samples for (e, _), samples in seen.items() if e == epoch]
        assert len(set().union(*of_epoch)) == 20 * 60


POINTS = [
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("told", ["launcher", "rank 1", "all"])
@pytest.mark.parametrize("kill_with", ["SIGTERM", "SIGUSR1"])
def test_told_anywhere_in_a_step(
    point: str, told: str, kill_with: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone within ten seconds, with the documented code and an exact checkpoint."""
    cell = Cell(ranks=2)
    if told != "all":
        monkeypatch.setenv("KILL_RANK", "0" if told == "launcher" else "1")
    killed = fit(tmp_path / "run", cell.options(), f"{point}:33 {kill_with}")
    told_at = float((tmp_path / "run" / "told").read_text())
    assert (killed / "checkpoints" / "last.ckpt").stat().st_mtime - told_at < 10
    assert time.time() - told_at < 10
    monkeypatch.delenv("KILL_RANK", raising=False)
    run(["resume", str(killed)], tmp_path / "run")
    ledger, run_folder = whole(cell)
    assert steps(tmp_path / "run") == steps(ledger)
    same(run_folder, killed)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("kill_with", ["SIGKILL", "SIGTERM"])
def test_one_rank_is_killed_or_told(rank: str, kill_with: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the dead, nothing is left running, and the signal to one rank stops all with a checkpoint."""
    monkeypatch.setenv("KILL_RANK", rank)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["fit", "--config", str(tmp_path / "config.yaml"), f"--runs={tmp_path / 'runs'}", *Cell(ranks=2).options()]
    started = time.monotonic()
    code = run(words, tmp_path, f"on_train_batch_end:31 {kill_with}")
    assert time.monotonic() - started < 60
    assert code == EXIT_CODE if kill_with == "SIGTERM" else code not in (0, EXIT_CODE)
    time.sleep(5)
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(tmp_path) in _command(pid)]
    (folder,) = (tmp_path / "runs").glob("*/*/")
    assert not has_changed(folder / "checkpoints" / "last.ckpt")


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
