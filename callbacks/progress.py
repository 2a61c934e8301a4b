"""Progress: a bar on a terminal, plain lines in a log file."""

import math
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from toolkit.task import Task

SECONDS_BETWEEN_LINES = 60.0
"""How long an epoch may be silent in a log file."""


def make_progress_bar() -> ProgressBar:
    """A bar if somebody watches, lines otherwise."""
    return TerminalProgress() if sys.stdout.isatty() else LineProgress()


def shown_metrics(trainer: Trainer, pl_module: LightningModule, epoch_is_over: bool = False) -> dict[str, float]:
    """The few metrics that fit in a line: both losses and the monitored one; of the epoch, where that is known."""
    metrics = trainer.callback_metrics
    monitor = pl_module.monitor if isinstance(pl_module, Task) else "val/loss"
    shown = {}
    for name in dict.fromkeys(["train/loss", "val/loss", monitor]):
        value = metrics.get(name)
        if epoch_is_over:
            value = metrics.get(f"{name}_epoch", value)
        if value is not None:
            shown[name] = float(value)
    return shown


class TerminalProgress(RichProgressBar):
    """Lightning's bar in quiet colours, one line an epoch stays; it shows what `shown_metrics` gives."""

    def __init__(self) -> None:
        theme = RichProgressBarTheme(progress_bar="cyan", progress_bar_finished="green", metrics_format=".4g")
        super().__init__(refresh_rate=10, leave=True, theme=theme)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The short subset, without the run's number."""
        return {**shown_metrics(trainer, pl_module)}

    def _get_train_description(self, current_epoch: int) -> str:
        return _epoch(self.trainer, current_epoch + 1)  # Lightning counts from 0


class LineProgress(ProgressBar):
    """One line an epoch, and one a minute in an epoch that takes longer; in evaluation only the latter.

    The lines of an epoch are printed when its last metric is known, which is when the next epoch starts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._epoch_seconds: float | None = None
        self._last_line = time.monotonic()

    def enable(self) -> None:
        """Print."""
        self._enabled = True

    def disable(self) -> None:
        """Print nothing."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """No epoch waits for its line; one that is resumed in its middle begins now."""
        self._epoch_seconds = None
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before."""
        self._print_epoch(trainer, pl_module, trainer.current_epoch)
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line a minute."""
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            words = [_epoch(trainer, trainer.current_epoch + 1), _step(batch_idx, trainer.num_training_batches)]
            self._print(*words, *_texts(shown_metrics(trainer, pl_module)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch's time, validation included."""
        self._epoch_seconds = time.monotonic() - self._epoch_start

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        self._print_epoch(trainer, pl_module, trainer.current_epoch)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Print a line a minute."""
        self._evaluating("validation", trainer.num_val_batches, *args)

    def on_test_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Print a line a minute."""
        self._evaluating("test", trainer.num_test_batches, *args)

    def on_predict_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Print a line a minute."""
        self._evaluating("predict", trainer.num_predict_batches, *args)

    def _evaluating(
        self,
        what: str,
        totals: list[int | float],
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._print(what, _step(batch_idx, totals[dataloader_idx]))

    def _print_epoch(self, trainer: Trainer, pl_module: LightningModule, number: int) -> None:
        if self._epoch_seconds is not None and self._enabled:
            metrics = _texts(shown_metrics(trainer, pl_module, epoch_is_over=True))
            self._print(_epoch(trainer, number), *metrics, f"{self._epoch_seconds:.1f} s")
        self._epoch_seconds = None

    def _print(self, *words: str) -> None:
        self._last_line = time.monotonic()
        if self._enabled:
            print("  ".join(words), flush=True)


def _epoch(trainer: Trainer, number: int) -> str:
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        return f"epoch {number}"
    return f"epoch {number:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"


def _step(batch_idx: int, total: float) -> str:
    return f"step {batch_idx + 1}" if math.isinf(total) else f"step {batch_idx + 1}/{int(total)}"


def _texts(metrics: dict[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in metrics.items()]
