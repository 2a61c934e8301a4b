"""Cost of a GAN's training step in the Trainer against a bare PyTorch loop, both in one process and in turns.

    python benchmarks/gan_overhead.py [--steps 60] [--repeats 5] [--json FILE]

The networks, batch and optimizers of configs/generative/gan_mnist.yaml in fp32, on random images, one thread.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_turns import WARMUP, compare, fitted
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.losses.hinge import hinge_discriminator_loss, hinge_generator_loss

BATCH, SIZE = 128, 28
OPTIONS: dict[str, Any] = {"generator_width": 32, "discriminator_width": 32}


def bare(file: Path, folder: Path) -> float:
    """Seconds a step of the plain loop: one update of each network."""
    steps = len(np.load(file)["train_labels"]) // BATCH
    torch.manual_seed(0)
    net = DCGAN(in_channels=1, image_size=(SIZE, SIZE), num_classes=10, conditional=True, **OPTIONS)
    first = torch.optim.Adam(net.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    second = torch.optim.Adam(net.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images = torch.randint(0, 256, (BATCH, 1, SIZE, SIZE), dtype=torch.uint8)
    for step in range(steps):
        if step == WARMUP:
            start = time.perf_counter()
        label = torch.randint(10, (BATCH,))
        real = images.float() / 127.5 - 1
        with torch.no_grad():
            fake = net.generate(torch.randn(BATCH, net.latent_dim), label)
        loss = hinge_discriminator_loss(net.discriminate(real, label), net.discriminate(fake, label))
        first.zero_grad()
        loss.backward()
        first.step()
        net.discriminator.requires_grad_(False)
        loss = hinge_generator_loss(net.discriminate(net.generate(torch.randn(BATCH, net.latent_dim), label), label))
        second.zero_grad()
        loss.backward()
        second.step()
        net.discriminator.requires_grad_(True)
    return (time.perf_counter() - start) / (steps - WARMUP)


def ours(file: Path, folder: Path) -> float:
    """Seconds a step of `fit` with everything that is on by default."""
    model = ("--model=GAN", "--model.net=DCGAN", "--model.net.conditional=true", "--model.loss=HingeLoss")
    options = (f"--model.net.{name}={value}" for name, value in OPTIONS.items())
    return fitted(file, folder, BATCH, *model, *options)[1].per_step


if __name__ == "__main__":
    compare(__doc__, {"ours": ours, "bare": bare}, steps=60, repeats=5, batch=BATCH, size=SIZE)
