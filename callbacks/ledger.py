"""What each step was trained on and what came of it, to compare two runs step by step."""

import csv
import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor


class Ledger(Callback):
    """Appends a row a step to a CSV: rank, epoch, batch, loss, a checksum of the weights, and the samples' numbers.

    Args:
        path: The CSV; several ranks and a resumed run append to the same one.
        kill_after: Kill this process, without any warning to it, after so many of its steps.
    """

    def __init__(self, path: str, kill_after: int | None = None) -> None:
        self.path = Path(path)
        self.kill_after = kill_after
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count on from what is written, so that a resumed run is not killed again."""
        if self.path.exists():
            with open(self.path, newline="") as file:
                self._steps = sum(row[0] == str(trainer.global_rank) for row in csv.reader(file))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the row."""
        index = getattr(batch, "index", None)
        samples = " ".join(map(str, index.tolist())) if isinstance(index, Tensor) else ""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        bits = float(loss).hex() if isinstance(loss, Tensor) else ""
        row = [trainer.global_rank, trainer.current_epoch, batch_idx, bits, checksum(pl_module), samples]
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow(row)
        self._steps += 1
        if self._steps == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def checksum(module: torch.nn.Module) -> str:
    """First 16 digits of the SHA-256 of all weights; of sharded ones, of this rank's part.

    >>> checksum(torch.nn.Identity())
    'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    for parameter in module.parameters():
        own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        digest.update(own.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
