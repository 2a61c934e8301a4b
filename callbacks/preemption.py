"""Leaving when told to: with an exact checkpoint, a message and an exit code that says that the run can go on."""

import signal
import sys
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.last_checkpoint import LastCheckpoint

EXIT_CODE = 75
"""The process's exit code after a signal: EX_TEMPFAIL of sysexits.h, "try again later"."""
STEPS_BETWEEN_QUESTIONS = 10
"""How often ranks ask each other; each time waits for the device."""


class Preemption(Callback):
    """Writes a checkpoint and leaves at the next step after SIGTERM, SIGUSR1 or Ctrl-C, sent to whichever rank.

    The handler only takes note. Between two steps, or between two batches of a validation, all ranks agree that one of
    them was told, write the checkpoint, and exit with `EXIT_CODE`. A validation that is left is done anew after the
    resume; one among the batches that a step accumulates goes on to its end, and so does that step, since no checkpoint
    holds gradients. A second Ctrl-C leaves at once. Goes right behind `LastCheckpoint`.

    Args:
        last: Writes the checkpoint.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._received: signal.Signals | None = None
        self._validation_batches = 0
        self._leaves_validation = False
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over: from Lightning, which would leave without a checkpoint, or save within a step."""
        self._handlers = {number: signal.signal(number, self._note) for number in self.SIGNALS}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give them back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give them back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        if number == signal.SIGINT:
            print("leaving after this step; press Ctrl-C again to leave at once", file=sys.stderr, flush=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Leave between two steps."""
        is_between = batch_idx % trainer.accumulate_grad_batches == 0
        if is_between and self._is_told(trainer, trainer.global_step):
            self._leave(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave between two batches of a validation."""
        self._validation_batches += 1
        if not self._handlers or trainer.fit_loop._should_accumulate():
            return
        if self._is_told(trainer, self._validation_batches):
            self._leaves_validation = True
            self._leave(trainer)

    def _is_told(self, trainer: Trainer, count: int) -> bool:
        told = self._received is not None
        if trainer.world_size == 1:
            return told
        return count % STEPS_BETWEEN_QUESTIONS == 0 and trainer.strategy.reduce_boolean_decision(told, all=False)

    def _leave(self, trainer: Trainer) -> None:
        self.last.save(trainer)
        trainer.strategy.barrier()
        name = self._received.name if self._received else "a signal to another rank"
        rank_zero_info(
            f"stopped by {name} after step {trainer.global_step}, exit code {EXIT_CODE}; go on with: "
            f"python cli.py resume {self.last.folder.parent}"
        )
        raise SystemExit(EXIT_CODE)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark a validation that is left as begun and not done, so that Lightning does it, from its first batch."""
        if self._leaves_validation:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress |= {"total": dict(begun), "current": dict(begun), "is_last_batch": False}
