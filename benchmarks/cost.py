"""What a step costs more than Lightning's own, with everything that watches over a run: logging, checkpoints, guards.

    python benchmarks/cost.py [--steps 2000] [--repeats 7] [--json FILE]

A tiny MLP and batches of 16 rows, so that nearly all of a step is the loop. Once as a bare LightningModule in a Trainer
with everything off; once through `fit` with its defaults: five scalars accumulated in each step and logged in every
fiftieth (Lightning's default), progress bar, CSV, offline Weights & Biases, learning rate, throughput, checkpoints,
signals, divergence and memory guard, seeded steps. The same data, batches and optimizer in both; in turns, in one
process, on one thread.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_turns import Clock, compare, fitted
from datamodules.npz import NPZDataModule
from toolkit.task import Task
from toolkit.types import ImageBatch, Stage, StepOutput

BATCH, SIZE, CLASSES = 16, 8, 10


class TinyMLP(nn.Module):
    """Two layers, 1,210 parameters."""

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


def bare(file: Path, folder: Path) -> float:
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
    model = ("--model=benchmarks.cost.FiveScalars", "--model.net=benchmarks.cost.TinyMLP")
    return fitted(file, folder, BATCH, *model, "--trainer.log_every_n_steps=50")[1].per_step


if __name__ == "__main__":
    compare(__doc__, {"ours": ours, "bare": bare}, steps=2000, repeats=7, batch=BATCH, size=SIZE)
