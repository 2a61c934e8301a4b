"""What many GPUs cost, on paper: all-reduce against step time, checkpoint interval, hours lost to failures.

    python benchmarks/scaling.py [--gpus 1024] [--json FILE]

Formulae, with the numbers below as the only inputs; docs/cluster.md explains them. Nothing here is measured.

- Ring all-reduce (Patarasuk and Yuan, 2009): each GPU sends and receives 2 (n - 1) / n times the gradient's bytes, over
  the link to the next node; t = bytes / bandwidth + 2 (n - 1) x latency. DDP hides it behind the backward pass, two
  thirds of a step; what does not fit behind is exposed.
- Step time: 3 x forward FLOPs x samples per GPU / (peak x utilisation).
- Checkpoint interval (Young, 1974; Daly, 2006): sqrt(2 x write time x mean time between failures), with the failures of
  n / 8 machines; lost: half an interval and a restart a failure, and the writing itself.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

BANDWIDTH = 50e9
"""Bytes a second and GPU between machines: 400 Gbit/s, one card a GPU."""
LATENCY = 10e-6
"""Seconds a hop."""
PEAK = 990e12
"""bf16 FLOP/s of an H100."""
UTILISATION = 0.35
"""Share of the peak that a well-made training reaches; small networks reach less."""
DISK = 5e9
"""Bytes a second to the shared file system."""
MACHINE_HOURS = 50_000
"""Mean time between failures of a machine of eight GPUs: one of 128 fails every 16 days."""
RESTART = 300
"""Seconds from a failure to the first step: queue, imports, NCCL."""


@dataclass(frozen=True)
class Family:
    """What a family trains at scale."""

    name: str
    parameters: float
    forward_flops: float
    """Of one sample."""
    samples: int
    """Per GPU and step."""
    optimizer_states: int = 2
    """Numbers of four bytes a parameter, beside the weights."""


FAMILIES = (
    Family("CNN, ResNet-50, 224 px", 25.6e6, 4.1e9 * 2, 256, 1),
    Family("ViT-L/16, 224 px", 304e6, 61.6e9 * 2, 128),
    Family("contrastive, ResNet-50, two views", 28e6, 4.1e9 * 4, 128, 1),
    Family("GAN or diffusion, 64 px U-Net", 120e6, 50e9 * 2, 64),
    Family("language model, 124 M, 1,024 tokens", 124e6, 2 * 124e6 * 1024, 32),
    Family("language model, 7 B, 4,096 tokens", 7e9, 2 * 7e9 * 4096, 1),
    Family("policy network, 2 M", 2e6, 4e6, 2048),
)


@dataclass(frozen=True)
class Estimate:
    """A family on so many GPUs; times in seconds."""

    step: float
    all_reduce: float
    exposed: float
    efficiency: float
    checkpoint_bytes: float
    write: float
    interval: float
    lost: float
    """Share of the time."""


def estimate(family: Family, gpus: int) -> Estimate:
    """The formulae above.

    >>> single = estimate(FAMILIES[0], 1)
    >>> single.all_reduce, single.efficiency
    (0.0, 1.0)
    """
    step = 3 * family.forward_flops * family.samples / (PEAK * UTILISATION)
    gradient = 2 * family.parameters  # bytes, bf16
    all_reduce = 2 * (gpus - 1) / gpus * gradient / BANDWIDTH + 2 * (gpus - 1) * LATENCY * (gpus > 1)
    exposed = max(0.0, all_reduce - 2 / 3 * step)
    size = 4 * family.parameters * (1 + family.optimizer_states)
    write = size / DISK
    failures = MACHINE_HOURS * 3600 / math.ceil(gpus / 8)
    interval = math.sqrt(2 * write * failures)
    lost = write / interval + (interval / 2 + RESTART) / failures
    return Estimate(step, all_reduce, exposed, step / (step + exposed), size, write, interval, lost)


def table(gpus: int) -> str:
    """A line a family, in Markdown."""
    lines = [
        "| family | step | all-reduce | exposed | efficiency | checkpoint | interval | lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        e = estimate(family, gpus)
        lines.append(
            f"| {family.name} | {e.step * 1e3:.1f} ms | {e.all_reduce * 1e3:.1f} ms | {e.exposed * 1e3:.1f} ms | "
            f"{e.efficiency:.0%} | {e.checkpoint_bytes / 1e9:.2f} GB | {e.interval / 60:.0f} min | {e.lost:.2%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(table(options.gpus))
    if options.json:
        options.json.write_text(json.dumps({family.name: vars(estimate(family, options.gpus)) for family in FAMILIES}))


if __name__ == "__main__":
    main()
