"""Cost of a GAN's training step in the Trainer against a bare PyTorch loop, both in one process and in turns.

    python benchmarks/gan_overhead.py [--steps 60] [--repeats 5] [--json FILE]

The networks, batch and optimizers of configs/generative/gan_mnist.yaml in fp32, on random images, one thread.
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

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.overhead import BATCH, SIZE, write_data
from cli import main as cli
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.losses.hinge import hinge_discriminator_loss, hinge_generator_loss

OPTIONS: dict[str, Any] = {"generator_width": 32, "discriminator_width": 32}
WARMUP = 20


def bare(steps: int) -> float:
    """Seconds per step of the plain loop: one update of each network."""
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
    """Seconds per step of `fit` with everything that is on by default."""
    made = cli(
        [
            *("fit", "--model=GAN", "--model.net=DCGAN", "--model.net.conditional=true", "--model.loss=HingeLoss"),
            *(f"--model.net.{name}={value}" for name, value in OPTIONS.items()),
            *("--data=NPZDataModule", f"--data.path={file}", f"--data.batch_size={BATCH}", "--trainer.max_epochs=1"),
            *("--trainer.accelerator=cpu", f"--runs={folder}", "--trainer.callbacks=benchmarks.overhead.Clock"),
        ]
    )
    clock = next(c for c in made.trainer.callbacks if type(c).__name__ == "Clock")
    return float(clock.per_step)


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    bare_times, our_times = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), options.steps)
        for _ in range(options.repeats):
            bare_times.append(bare(options.steps))
            our_times.append(ours(file, Path(folder)))
    ratios = [a / b for a, b in zip(our_times, bare_times, strict=True)]
    values = {
        "ours_ms": 1e3 * statistics.median(our_times),
        "bare_ms": 1e3 * statistics.median(bare_times),
        "ratio": statistics.median(ratios),
    }
    print("  ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if options.json:
        spread = {"median": values["ratio"], "min": min(ratios), "max": max(ratios)}
        options.json.write_text(json.dumps(values | {"statistics": {"ratio": spread}}))


if __name__ == "__main__":
    main()
