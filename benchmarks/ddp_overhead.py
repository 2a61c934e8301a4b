"""Cost of DDP with one rank against no DDP: CPU time of a training step.

    python benchmarks/ddp_overhead.py [--steps 100] [--repeats 7] [--json FILE]

CPU time counts all threads of the process, those of the process group too; other work on the machine changes it little.
The network and data of `benchmarks/overhead.py`, fp32, one thread, the same batches in both. Both are timed in one
process, in turns, as the command line builds them; the process group (gloo) is ended after each run.
"""

import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_turns import compare, fitted
from benchmarks.overhead import BATCH, SIZE


def cpu_seconds(file: Path, folder: Path, strategy: str) -> float:
    """CPU seconds a step of `fit` with everything that is on by default."""
    network = ("--model=ImageClassification", "--model.net=benchmarks.overhead.Network")
    trainer, clock = fitted(file, folder, BATCH, *network, "--trainer.devices=1", f"--trainer.strategy={strategy}")
    assert type(trainer.strategy).__name__ == ("DDPStrategy" if strategy == "ddp" else "SingleDeviceStrategy")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return clock.cpu_per_step


if __name__ == "__main__":
    both = {"ddp": partial(cpu_seconds, strategy="ddp"), "single": partial(cpu_seconds, strategy="auto")}
    compare(__doc__, both, steps=100, repeats=7, batch=BATCH, size=SIZE)
