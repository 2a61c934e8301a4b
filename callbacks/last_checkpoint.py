"""The checkpoint from which a run goes on exactly where it was."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from toolkit.checkpoint_io import DurableCheckpointIO, checkpoint_path, make_room, remove_stale
from toolkit.errors import UserError
from toolkit.experience import HoldsExperience


class LastCheckpoint(Callback):
    """Writes ``last.ckpt`` between two steps, when all of the step before is done, validation and log rows included.

    At the start of each epoch, every so many steps or minutes, and at the end of the training. The ones before become
    ``last-2.ckpt`` and so on; each name holds a whole checkpoint at all times. This callback goes before all others,
    so that none has begun the step to come.

    Args:
        folder: Where they go.
        keep: How many are kept.
        every_n_steps: Also write so often, in optimizer steps.
        every_n_minutes: Also write when so many minutes have passed.

    Raises:
        UserError: A number is not positive.
    """

    def __init__(
        self, folder: str | Path, keep: int = 2, every_n_steps: int | None = None, every_n_minutes: float = 10.0
    ) -> None:
        if keep < 1 or (every_n_steps or 1) < 1 or every_n_minutes <= 0:
            raise UserError(
                f"LastCheckpoint: need positive numbers, got keep {keep}, every_n_steps {every_n_steps}, "
                f"every_n_minutes {every_n_minutes}."
            )
        self.folder = Path(folder).absolute()
        self.keep = keep
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._steps_logged: int | None = None
        self._is_cut_short = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn rank 0's folder; remove what a crash left half written."""
        self.folder = trainer.strategy.broadcast(self.folder)
        if stage == "fit" and trainer.is_global_zero:
            remove_stale(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step
        self._is_cut_short = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Between two steps: the batch in hand has not been trained on, and will be dealt again after a resume."""
        if self._steps_logged is not None:  # Lightning counts one too many when it resumes between two steps
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._steps_logged
            self._steps_logged = None
        between_optimizer_steps = batch_idx % trainer.accumulate_grad_batches == 0
        if between_optimizer_steps and trainer.global_step != self._saved_step and self._is_due(trainer, batch_idx):
            self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation that was left in its middle is done anew, and logged at the step that it belongs to."""
        if self._steps_logged is not None and not trainer.sanity_checking:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._steps_logged - 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save an epoch that ``max_steps`` or a timer cuts short before it is closed: an extended run goes on in it."""
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if not progress.is_last_batch and progress.current.completed % trainer.accumulate_grad_batches == 0:
            self._is_cut_short = True
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A finished run can be extended."""
        if not self._is_cut_short:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write it now."""
        finish_writing(trainer)
        if trainer.is_global_zero:
            make_room(self.folder, "last", 1, self.keep)
        for logger in trainer.loggers:
            logger.save()  # no row that the checkpoint counts as logged may be lost with it
        with _with_experience(trainer):
            trainer.save_checkpoint(checkpoint_path(self.folder, "last", 1), weights_only=False)
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        if batch_idx == 0 or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            return True
        late = time.monotonic() - self._saved_at > 60 * self.every_n_minutes
        if trainer.world_size == 1:
            return late
        # The clocks of ranks differ, so rank 0 decides; asking it costs too much to do it in each step.
        return trainer.global_step % 10 == 0 and trainer.strategy.broadcast(late)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write down as what step the next one will be logged; after a validation Lightning still counts one up."""
        checkpoint["steps_logged"] = trainer.fit_loop.epoch_loop._batches_that_stepped + bool(trainer.validating)
        if self._is_cut_short:  # Lightning has counted the epoch
            for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                progress["processed"] -= 1

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note that step."""
        if trainer.state.fn == "fit":
            self._steps_logged = checkpoint.get("steps_logged")


@contextlib.contextmanager
def _with_experience(trainer: Trainer) -> Iterator[None]:
    """While a checkpoint is written from which the training goes on: with all that an agent remembers."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, HoldsExperience):
        yield
        return
    data.saves_experience = True
    try:
        yield
    finally:
        data.saves_experience = False


def finish_writing(trainer: Trainer) -> None:
    """Wait for a checkpoint that is being written: files may be moved and read then."""
    if isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO):
        trainer.strategy.checkpoint_io.finish()
