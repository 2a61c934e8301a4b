"""What a step costs more than Lightning's own, with everything that watches over a run: logging, checkpoints, guards.

    python benchmarks/cost.py [--steps 2000] [--repeats 7] [--json FILE]

A tiny MLP and batches of 16 rows, so that nearly all of a step is the loop. Once as a bare LightningModule in a Trainer
with everything off; once through `fit` with its defaults: five scalars accumulated in each step and logged in every
fiftieth (Lightning's default), progress bar, CSV, offline Weights & Biases, learning rate, throughput, checkpoints,
signals, divergence and memory guard, seeded steps. The same data, batches and optimizer in both; in turns, in one
process, on one thread.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cli import main as cli
from datamodules.npz import NPZDataModule
from toolkit.task import Task
from toolkit.types import ImageBatch, Stage, StepOutput

BATCH, SIZE, CLASSES = 16, 8, 4


class TinyMLP(nn.Module):
    """Two layers, 1,124 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of raw pixels ``(B, 1, H, W)``."""
        logits: Tensor = self.layers(x.float() / 255)
        return logits


class FiveScalars(Task):
    """Classification that records five scalars a step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net, scalars=("loss", "acc", "confidence", "entropy", "norm"))

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """Cross entropy, recorded under five names: only the recording is to cost something."""
        logits = self.net(batch.image)
        loss = F.cross_entropy(logits, batch.label)
        self.record(stage, BATCH, loss=loss, acc=loss, confidence=loss, entropy=loss, norm=loss)
        return StepOutput(loss)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Logits."""
        logits: Tensor = self.net(batch.image)
        return logits


class Plain(LightningModule):
    """The same network and loss, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyMLP()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Cross entropy."""
        return F.cross_entropy(self.net(batch.image), batch.label)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The task's default."""
        return torch.optim.AdamW(self.parameters())


class Clock(Callback):
    """Wall time of the steps after the first 50."""

    def __init__(self, warmup: int = 50) -> None:
        self.warmup = warmup
        self.per_step = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start after the warm-up."""
        if trainer.global_step == self.warmup:
            self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop with the last step."""
        self.per_step = (time.perf_counter() - self.start) / (trainer.global_step - self.warmup)


def write_data(folder: Path, steps: int) -> Path:
    """Random pictures in MedMNIST's layout; one epoch of so many steps."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH * steps, SIZE, SIZE), dtype=np.uint8)
    labels = draw.integers(0, CLASSES, BATCH * steps)
    small = {f"{split}_{kind}": array[:BATCH] for split in ("val", "test") for kind, array in
             (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(folder / "random.npz", train_images=images, train_labels=labels, **small)
    return folder / "random.npz"


def bare(file: Path) -> float:
    """Seconds a step of Lightning with everything off."""
    clock = Clock()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False, callbacks=[clock],
    )  # fmt: skip
    trainer.fit(Plain(), datamodule=NPZDataModule(path=str(file), batch_size=BATCH))
    return clock.per_step


def ours(file: Path, folder: Path) -> float:
    """Seconds a step of `fit` with its defaults."""
    made = cli(
        [
            *("fit", "--model=benchmarks.cost.FiveScalars", "--model.net=benchmarks.cost.TinyMLP"),
            *("--data=NPZDataModule", f"--data.path={file}", f"--data.batch_size={BATCH}", "--trainer.max_epochs=1"),
            *("--trainer.accelerator=cpu", f"--runs={folder}", "--trainer.callbacks=benchmarks.cost.Clock"),
            "--trainer.log_every_n_steps=50",
        ]
    )
    return float(next(c for c in made.trainer.callbacks if type(c).__name__ == "Clock").per_step)


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), options.steps)
        for _ in range(options.repeats):
            times["bare"].append(1e6 * bare(file))
            times["ours"].append(1e6 * ours(file, Path(folder)))
    extra = [a - b for a, b in zip(times["ours"], times["bare"], strict=True)]
    statistics_of = {
        f"{name}_us": {"median": statistics.median(v), "min": min(v), "max": max(v)}
        for name, v in {**times, "extra": extra}.items()
    }
    print("  ".join(f"{name} {value['median']:.4g}" for name, value in statistics_of.items()))
    if options.json:
        medians = {name: value["median"] for name, value in statistics_of.items()}
        options.json.write_text(json.dumps({**medians, "statistics": statistics_of}))


if __name__ == "__main__":
    main()
