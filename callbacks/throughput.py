"""How fast the training goes and how much memory it takes."""

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from toolkit.experience import ExperienceSource
from toolkit.task import Task

GB = 1e9


class Throughput(Callback):
    """Logs ``perf/samples_per_second``, ``perf/step_seconds`` and ``perf/peak_memory_gb`` on logging steps.

    Rate and time are means since the last logged step, of training alone: the clock stands while the run validates,
    writes a checkpoint or changes the epoch, and starts only after the first batch, which may compile. Samples count
    over all devices. A step is one step of the optimizer, however many batches it accumulates. Memory is the highest
    so far: what tensors took on the GPU, or what the process took of the computer.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the clock back."""
        self._running_since: float | None = None
        self._warm = False
        self._seconds = 0.0
        self._samples = self._batches = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Go on after a pause."""
        if self._running_since is None and self._warm:
            self._running_since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count; log on logging steps."""
        if self._running_since is None:  # the first batch, or one before which a checkpoint was written
            self._running_since, self._warm = time.perf_counter(), True
        else:
            self._samples += batch_length(batch)
            self._batches += 1
        is_logging_step = trainer._logger_connector.should_update_logs and not trainer.fit_loop._should_accumulate()
        if is_logging_step and self._batches:
            assert isinstance(pl_module, Task)
            pl_module.log_with_step(self._measured(trainer, pl_module.device))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next batch."""
        self._pause(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next batch."""
        self._pause(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stop the clock until the next batch."""
        self._pause(trainer)

    def _pause(self, trainer: Trainer) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._running_since is not None:
            self._seconds += time.perf_counter() - self._running_since
            self._running_since = None

    def _measured(self, trainer: Trainer, device: torch.device) -> dict[str, float]:
        now = time.perf_counter()
        assert self._running_since is not None
        seconds = self._seconds + now - self._running_since
        steps = self._batches / trainer.accumulate_grad_batches
        values = {"perf/step_seconds": seconds / steps, "perf/peak_memory_gb": peak_memory(device) / GB}
        if self._samples:
            values["perf/samples_per_second"] = self._samples * trainer.world_size / seconds
        self._running_since, self._seconds, self._samples, self._batches = now, 0.0, 0, 0
        return values


def batch_length(batch: Any) -> int:
    """Samples in a batch: the length of the first tensor in it, however it is nested; 0 if there is none.

    Of a source of experience, the environment steps.

    >>> batch_length({"name": "a", "pair": (torch.zeros(3, 2), torch.zeros(5))})
    3
    """
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    if isinstance(batch, (tuple, list)):  # before the abstract classes, of which it takes long to be none
        for part in batch:
            if length := batch_length(part):
                return length
        return 0
    if isinstance(batch, Mapping):
        return batch_length(tuple(batch.values()))
    return len(batch) if isinstance(batch, ExperienceSource) else 0


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a CUDA device, else the most that this process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
