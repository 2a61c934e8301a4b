"""What every run gets without asking: loggers, checkpoints, pictures, and a progress bar that suits the terminal."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from callbacks.csv_logger import MetricsCSV
from callbacks.image_media import ConfusionMatrix, InputImages, WorstErrors
from callbacks.prediction_writer import PredictionWriter
from callbacks.progress import make_progress_bar
from callbacks.run_folder import RunFolder, new_run_folder, newest_run
from callbacks.summary import RunSummary
from callbacks.throughput import Throughput
from callbacks.wandb_logger import QuietWandbLogger
from toolkit.commands.parts import Run
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification

__all__ = ["PredictionWriter", "RunSummary", "new_run_folder", "newest_run"]

MEDIA: dict[type[Task], tuple[type[Callback], ...]] = {
    ImageClassification: (InputImages, ConfusionMatrix, WorstErrors),
}
"""The standard picture set of each family; a subclass of a task gets its parent's."""


def loggers(run: Run) -> list[Logger]:
    """CSV always, Weights & Biases unless it is disabled."""
    chosen: list[Logger] = [MetricsCSV(run.folder)]
    if run.wandb.enabled:
        name = f"{run.name}/{run.folder.name}"
        chosen.append(
            QuietWandbLogger(
                run.folder, project=run.wandb.project, name=name, entity=run.wandb.entity, tags=run.wandb.tags
            )
        )
    return chosen


def close_loggers(running: Sequence[Logger]) -> str | None:
    """End the W&B run, and say where it is or how to upload it."""
    hint = None
    for logger in running:
        logger.save()
        if isinstance(logger, QuietWandbLogger):
            hint = logger.sync_hint()
            logger.close()
    return hint


def fit_callbacks(run: Run) -> list[Callback]:
    """Best and last checkpoint, learning rate, throughput, progress, pictures, and the run's record."""
    checkpoint = ModelCheckpoint(
        dirpath=Path(run.folder) / "checkpoints",
        filename="best",
        monitor=run.task.monitor if run.validates else None,
        mode=run.task.mode,
        save_last=True,
        enable_version_counter=False,
    )
    return [
        RunFolder(run.folder, run.config, run.command),
        LearningRateMonitor(logging_interval="step"),
        Throughput(),
        make_progress_bar(),
        *_media(run.task),
        checkpoint,
    ]


def evaluation_callbacks() -> list[Callback]:
    """Progress only; the pictures that a config names come with its config."""
    return [make_progress_bar()]


def _media(task: Task) -> list[Callback]:
    return [callback() for kind, callbacks in MEDIA.items() if isinstance(task, kind) for callback in callbacks]
