"""Cost of DDP with one rank against no DDP: CPU time and wall time of a training step.

    python benchmarks/ddp_overhead.py [--steps 150] [--repeats 11] [--json FILE]

CPU time counts all threads of the process, those of the process group too; other work on the machine changes it little.
The network and data of `benchmarks/overhead.py`, fp32, one thread, the same batches in both. Both are timed in one
process, in turns, as the command line builds them; the process group (gloo) is ended after each run.
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
from lightning.pytorch import LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.overhead import BATCH, Clock, write_data
from cli import main as cli


class Clocks(Clock):
    """CPU time beside wall time."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start after the warm-up."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if trainer.global_step == self.warmup:
            self.cpu_start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop with the last step."""
        super().on_train_epoch_end(trainer, pl_module)
        self.cpu_per_step = (time.process_time() - self.cpu_start) / (trainer.global_step - self.warmup)


def seconds(file: Path, folder: Path, strategy: str) -> tuple[float, float]:
    """CPU and wall seconds per step of `fit` with everything that is on by default."""
    made = cli(
        [
            *("fit", "--model=ImageClassification", "--model.net=benchmarks.overhead.Network", "--data=NPZDataModule"),
            *(f"--data.path={file}", f"--data.batch_size={BATCH}", "--trainer.max_epochs=1", f"--runs={folder}"),
            *("--trainer.accelerator=cpu", "--trainer.devices=1", f"--trainer.strategy={strategy}"),
            "--trainer.callbacks=benchmarks.ddp_overhead.Clocks",
        ]
    )
    assert type(made.trainer.strategy).__name__ == ("DDPStrategy" if strategy == "ddp" else "SingleDeviceStrategy")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    clocks = next(c for c in made.trainer.callbacks if type(c).__name__ == "Clocks")
    return float(clocks.cpu_per_step), float(clocks.per_step)


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    times: dict[str, list[tuple[float, float]]] = {"auto": [], "ddp": []}
    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), options.steps)
        for number in range(options.repeats):
            for strategy in sorted(times, reverse=number % 2 == 1):  # whichever goes first has it no better
                times[strategy].append(seconds(file, Path(folder), strategy))
    pairs = list(zip(times["ddp"], times["auto"], strict=True))
    ratios = [ddp[0] / auto[0] for ddp, auto in pairs]
    values = {"ratio": statistics.median(ratios), "wall_ratio": statistics.median(d[1] / a[1] for d, a in pairs)}
    for strategy, measured in times.items():
        values[f"{strategy}_cpu_ms"] = 1e3 * statistics.median(cpu for cpu, _ in measured)
    print("  ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if options.json:
        spread = {"median": values["ratio"], "min": min(ratios), "max": max(ratios)}
        options.json.write_text(json.dumps(values | {"statistics": {"ratio": spread}}))


if __name__ == "__main__":
    main()
