"""Cost of the Trainer with this toolkit's callbacks and loggers against a bare PyTorch loop, per training step.

    python benchmarks/overhead.py [--steps 150] [--repeats 11] [--json FILE]

A convolutional network of about 40,000 parameters, batches of 128 grey images of 28x28 pixels, fp32, one thread, the
same batches in both. Both are timed in one process, in turns: the bare loop, and `fit` as the command line builds it,
with CSV, offline Weights & Biases, checkpoint, pictures, learning-rate and throughput monitors.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_turns import WARMUP, compare, fitted

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


def bare(file: Path, folder: Path) -> float:
    """Seconds a step of the plain loop: batch from memory, normalise, forward, backward, AdamW."""
    data = np.load(file)
    images, labels = torch.from_numpy(data["train_images"])[:, None], torch.from_numpy(data["train_labels"])
    torch.manual_seed(0)
    net = Network()
    optimizer = torch.optim.AdamW(net.parameters())
    mean, std = images.float().mean() / 255, images.float().std() / 255
    batches = torch.randperm(len(images)).split(BATCH)
    for step, index in enumerate(batches):
        if step == WARMUP:
            start = time.perf_counter()
        image, label = (images[index].float() / 255 - mean) / std, labels[index]
        loss = F.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / (len(batches) - WARMUP)


def ours(file: Path, folder: Path) -> float:
    """Seconds a step of `fit` with everything that is on by default."""
    network = ("--model=ImageClassification", "--model.net=benchmarks.overhead.Network")
    return fitted(file, folder, BATCH, *network)[1].per_step


if __name__ == "__main__":
    compare(__doc__, {"ours": ours, "bare": bare}, steps=150, repeats=11, batch=BATCH, size=SIZE)
