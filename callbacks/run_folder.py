"""The run folder: where one run keeps everything that says what it was."""

import datetime
import importlib.metadata
import os
import platform
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.csv_logger import MetricsCSV
from callbacks.wandb_logger import QuietWandbLogger
from toolkit.errors import UserError
from toolkit.secrets import mask, mask_text, mask_words

PACKAGES = ("fulgurite", "lightning", "torch", "torchvision", "torchmetrics", "wandb", "gymnasium", "jsonargparse")


def new_run_folder(root: str | Path, name: str) -> Path:
    """Create ``<root>/<name>/<date-time>-<short id>/``; two runs never get the same, started in one second or not.

    Args:
        root: Folder of all runs.
        name: Name of the config.

    Returns:
        The new, empty folder.
    """
    while True:
        folder = Path(root) / name / f"{_now()}-{secrets.token_hex(2)}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def _now() -> str:
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def newest_run(root: str | Path, name: str) -> Path | None:
    """The newest run of a config that has a checkpoint, or None."""
    runs = [path.parent.parent for path in (Path(root) / name).glob("*/checkpoints/*.ckpt")]
    return max(runs, key=lambda run: run.name, default=None)


class RunFolder(Callback):
    """Writes the resolved config, the command, the git state and the versions when a fit starts.

    The config also goes into every checkpoint, so that one file is enough to test or predict, and to the loggers. What
    looks like a secret is masked.

    Raises:
        UserError: The record cannot be written, such as on a full disk.

    Args:
        folder: The run folder; it exists.
        config: The resolved config as plain data.
        command: The command line, as typed.
    """

    def __init__(self, folder: str | Path, config: dict[str, Any], command: list[str]) -> None:
        self.folder = Path(folder)
        self.config = mask(config)
        self.command = mask_words(command)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the record, on rank 0 and once; a resumed run adds its command."""
        if not trainer.is_global_zero:
            return
        try:
            with open(self.folder / "command.txt", "a") as file:
                file.write(shlex.join(self.command) + "\n")
            if (self.folder / "config.yaml").exists():
                return
            for name, text in self._record().items():
                (self.folder / name).write_text(text)
        except OSError as error:
            raise UserError(
                f"{self.folder}: the record of the run could not be written, {error}. Free some space there, or begin "
                "the run elsewhere with --runs FOLDER."
            ) from error
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the config into the checkpoint, and which run it is of and how much of it is logged."""
        checkpoint["config"] = self.config
        rows = sum(logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV))
        checkpoint["run"] = {"folder": self.folder.name, "rows": rows}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the metrics of a resumed run go on where the checkpoint was written, in a folder that was renamed too."""
        run = checkpoint.get("run", {})
        if trainer.state.fn == "fit" and run and (self.folder / "metrics.csv").exists():
            for logger in trainer.loggers:
                if isinstance(logger, (MetricsCSV, QuietWandbLogger)):
                    logger.resume(run["rows"])

    def _record(self) -> dict[str, str]:
        record = {"versions.txt": versions()}
        if revision := _git("rev-parse", "HEAD"):
            record["git.txt"] = f"{revision}{_git('status', '--porcelain')}"
            record["git.diff"] = mask_text(_git("diff", "HEAD"))
        return record | {"config.yaml": yaml.safe_dump(self.config, sort_keys=False)}  # last: with it, all are there


def versions() -> str:
    """Python, machine and packages, a line each."""
    lines = [f"python {platform.python_version()}", f"machine {platform.platform()}, {os.cpu_count()} CPUs"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(lines) + "\n"


def _git(*arguments: str) -> str:
    """Output of a git command where the code lies; empty without git or outside a repository."""
    code = Path(sys.modules["__main__"].__file__ or ".").parent if hasattr(sys.modules["__main__"], "__file__") else "."
    try:
        done = subprocess.run(["git", "-C", str(code), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
