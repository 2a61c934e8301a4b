"""Two ways of the same training step, timed in one process, in turns, on one thread."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cli import main as cli

WARMUP = 20
"""Steps at the start that do not count."""

Side = Callable[[Path, Path], float]
"""Seconds a step, given the file of the data and an empty folder."""


class Clock(Callback):
    """Wall and CPU time of the training steps after the first ones, without what begins and ends an epoch."""

    def __init__(self) -> None:
        self.per_step = self.cpu_per_step = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start after the warm-up."""
        if trainer.global_step == WARMUP:
            self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop with the last step."""
        steps = trainer.global_step - WARMUP
        self.per_step = (time.perf_counter() - self.start) / steps
        self.cpu_per_step = (time.process_time() - self.cpu_start) / steps


def fitted(file: Path, folder: Path, batch: int, *words: str) -> tuple[Trainer, Clock]:
    """The trainer, after `fit` of one epoch with everything that is on by default, and its clock.

    Args:
        file: The data, of `write_data`.
        folder: For the run.
        batch: Batch size.
        words: Further arguments, of the model.
    """
    made = cli(
        [
            *("fit", "--data=NPZDataModule", f"--data.path={file}", f"--data.batch_size={batch}", f"--runs={folder}"),
            *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.callbacks=benchmarks.in_turns.Clock"),
            *words,
        ]
    )
    # by its name: `cli` imports this module once more when it is the script's neighbour
    return made.trainer, next(c for c in made.trainer.callbacks if type(c).__name__ == "Clock")


def write_data(folder: Path, rows: int, size: int, classes: int = 10) -> Path:
    """Random grey pictures in MedMNIST's layout, with 128 more for validation and test.

    Args:
        folder: Where to.
        rows: Training pictures.
        size: Height and width in pixels.
        classes: Number of classes.
    """
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (max(rows, 128), size, size), dtype=np.uint8)
    labels = draw.integers(0, classes, len(images))
    small = {f"{split}_images": images[:128] for split in ("val", "test")}
    small |= {f"{split}_labels": labels[:128] for split in ("val", "test")}
    np.savez(folder / "random.npz", train_images=images[:rows], train_labels=labels[:rows], **small)
    return folder / "random.npz"


def compare(doc: str | None, sides: Mapping[str, Side], steps: int, repeats: int, batch: int, size: int) -> None:
    """A command that measures both sides in turns, prints the medians, and writes them with their spread.

    Args:
        doc: What is measured, for `--help`.
        sides: The two, by name, each given data for one epoch; `ratio` and `extra_us` are first against second, a
            pair of neighbouring runs at a time.
        steps: Training steps of a run; the default of `--steps`.
        repeats: Runs of each; the default of `--repeats`.
        batch: Batch size.
        size: Height and width of the pictures.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    times: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), batch * options.steps, size)
        for number in range(options.repeats):
            for name in sorted(sides, reverse=number % 2 == 1):  # whichever goes first has it no better
                times[name].append(sides[name](file, Path(folder)))
    first, second = times.values()
    pairs = list(zip(first, second, strict=True))
    found = {f"{name}_us": [1e6 * t for t in values] for name, values in times.items()}
    found |= {"ratio": [a / b for a, b in pairs], "extra_us": [1e6 * (a - b) for a, b in pairs]}
    spread = {k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in found.items()}
    medians = {name: value["median"] for name, value in spread.items()}
    print("  ".join(f"{name} {value:.4g}" for name, value in medians.items()))
    if options.json:
        options.json.write_text(json.dumps({**medians, "statistics": spread}))
