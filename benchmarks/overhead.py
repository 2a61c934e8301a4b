"""Cost of the Trainer with this toolkit's callbacks and loggers against a bare PyTorch loop, per training step.

    python benchmarks/overhead.py [--steps 150] [--repeats 11] [--json FILE]

A convolutional network of about 40,000 parameters, batches of 128 grey images of 28x28 pixels, fp32, one thread, the
same batches in both. Both are timed in one process, in turns: the bare loop, then `fit` as the command line builds it,
with CSV, offline Weights & Biases, checkpoint, pictures, learning-rate and throughput monitors.
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
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cli import main as cli

BATCH, SIZE, CLASSES = 128, 28, 10


class Network(nn.Module):
    """Four convolutions, about 40,000 parameters."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, K)`` of images ``(B, 1, H, W)``."""
        logits: torch.Tensor = self.layers(x)
        return logits


class Clock(Callback):
    """Wall time of the training steps after the first 20, without what begins and ends an epoch."""

    def __init__(self, warmup: int = 20) -> None:
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
    """Random images in MedMNIST's layout; enough for one epoch of so many steps."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH * steps, SIZE, SIZE), dtype=np.uint8)
    labels = draw.integers(0, CLASSES, BATCH * steps)
    small = {f"{split}_{kind}": array[:BATCH] for split in ("val", "test") for kind, array in
             (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(folder / "random.npz", train_images=images, train_labels=labels, **small)
    return folder / "random.npz"


def bare(file: Path, steps: int, warmup: int = 20) -> float:
    """Seconds per step of the plain loop: batch from memory, normalise, forward, backward, AdamW."""
    data = np.load(file)
    images, labels = torch.from_numpy(data["train_images"])[:, None], torch.from_numpy(data["train_labels"])
    torch.manual_seed(0)
    net = Network()
    optimizer = torch.optim.AdamW(net.parameters())
    mean, std = images.float().mean() / 255, images.float().std() / 255
    for step, index in enumerate(torch.randperm(len(images)).split(BATCH)):
        if step == warmup:
            start = time.perf_counter()
        image, label = (images[index].float() / 255 - mean) / std, labels[index]
        loss = F.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / (steps - warmup)


def ours(file: Path, folder: Path) -> float:
    """Seconds per step of `fit` with everything that is on by default."""
    net = f"{__name__}.Network" if __name__ != "__main__" else "benchmarks.overhead.Network"
    made = cli(
        [
            *("fit", "--model=ImageClassification", f"--model.net={net}", "--data=NPZDataModule"),
            *(f"--data.path={file}", f"--data.batch_size={BATCH}", "--trainer.max_epochs=1"),
            *("--trainer.accelerator=cpu", f"--runs={folder}", "--trainer.callbacks=benchmarks.overhead.Clock"),
        ]
    )
    clock = next(c for c in made.trainer.callbacks if type(c).__name__ == "Clock")
    return float(clock.per_step)


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    ours_times, bare_times = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), options.steps)
        for _ in range(options.repeats):
            bare_times.append(bare(file, options.steps))
            ours_times.append(ours(file, Path(folder)))
    ratios = [a / b for a, b in zip(ours_times, bare_times, strict=True)]
    values = {
        "ours_ms": 1e3 * statistics.median(ours_times),
        "bare_ms": 1e3 * statistics.median(bare_times),
        "ratio": statistics.median(ratios),
        "parameters": sum(p.numel() for p in Network().parameters()),
    }
    print("  ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if options.json:
        spread = {"median": values["ratio"], "min": min(ratios), "max": max(ratios)}
        options.json.write_text(json.dumps(values | {"statistics": {"ratio": spread}}))


if __name__ == "__main__":
    main()
