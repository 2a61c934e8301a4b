"""What goes wrong in the processes of test_faults; imports nothing of the tests, whose settings hide W&B's server."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Fault(Callback):
    """Does to its own run what ``FAULT`` says, in the third epoch, when there are checkpoints to lose."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch != 2 or batch_idx != 5:
            return
        folder = trainer.log_dir
        what, _, rank = os.environ.get("FAULT", "").partition(" ")
        if what == "full":
            with contextlib.suppress(OSError), open(f"{folder}/filler", "wb", buffering=0) as file:
                while file.write(b"0" * 4096):
                    pass
        elif what == "forbidden":
            os.chmod(f"{folder}/checkpoints", 0o500)
        elif what == "wandb" and trainer.is_global_zero:
            _kill_wandb()
        elif what == "hang" and int(rank) == trainer.global_rank:
            time.sleep(600)


def _kill_wandb() -> None:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, parent = (process / "comm").read_text(), (process / "stat").read_text().rpartition(")")[2].split()[1]
            if name.startswith("wandb-core") and int(parent) == os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
                time.sleep(0.5)
                return
    raise AssertionError("W&B's service is not running")
