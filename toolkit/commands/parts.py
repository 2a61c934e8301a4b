"""What the verbs need from above: `cli.py` fills it in, so that toolkit imports neither datamodules nor callbacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger

from toolkit.task import Task
from toolkit.types import Baseline


class Summary(Protocol):
    """The closing lines of a run; see `callbacks.summary.RunSummary`."""

    def add_best(self, trainer: Trainer, baseline: Baseline | None) -> None:
        """Add the best validation score."""

    def add_test(self, metrics: dict[str, float], baseline: Baseline | None) -> None:
        """Add the test's metrics."""

    def write(self) -> None:
        """Write the file."""

    def lines(self, sync_hint: str | None, next_command: str) -> list[str]:
        """The lines to print."""


@dataclass(frozen=True)
class WandbOptions:
    """Weights & Biases; offline without a login, and ``WANDB_MODE`` decides if it is set.

    Args:
        enabled: Whether to log there at all.
        project: The project.
        entity: Team or user.
        tags: Tags of the run.
    """

    enabled: bool = True
    project: str = "fulgurite"
    entity: str | None = None
    tags: list[str] | None = None


@dataclass(frozen=True)
class CheckpointOptions:
    """Which checkpoints are kept, and when the last one is written besides the start of an epoch and the end.

    Args:
        keep_best: How many of the best.
        keep_last: How many of the last.
        every_n_steps: Also write the last one every so many optimizer steps.
        every_n_minutes: Also write the last one when so many minutes have passed.
        asynchronous: Write while the training goes on, from a copy in the CPU's memory.
    """

    keep_best: int = 1
    keep_last: int = 2
    every_n_steps: int | None = None
    every_n_minutes: float = 10.0
    asynchronous: bool = False


@dataclass(frozen=True)
class Run:
    """One run about to start."""

    folder: Path
    name: str
    config: dict[str, Any]
    command: list[str]
    wandb: WandbOptions
    checkpoint: CheckpointOptions
    task: Task
    data: LightningDataModule
    validates: bool
    """Whether there will be validation, and with it a best checkpoint."""
    saves: bool
    """Whether there will be checkpoints at all."""


@dataclass(frozen=True)
class Parts:
    """Constructors of what lies above toolkit."""

    data_class: type[LightningDataModule]
    facts: Sequence[str]
    """Properties of DataModules that are linked to arguments of the same name of tasks and networks."""
    new_run_folder: Callable[[str, str], Path]
    newest_run: Callable[[str, str], Path | None]
    loggers: Callable[[Run], list[Logger]]
    close_loggers: Callable[[Sequence[Logger]], str | None]
    """Ends them; gives back where, or with which command, the run is to be seen."""
    fit_callbacks: Callable[[Run], list[Callback]]
    evaluation_callbacks: Callable[[Task], list[Callback]]
    summary: Callable[[Path], Any]
    prediction_writer: Callable[[Path | None, int], Callback]
    input_data: Callable[[Task, Sequence[str], int, int], LightningDataModule]
    """(task, paths, batch size, workers) to the DataModule of `predict --input`."""
