"""Metrics as CSV in the run folder: one row a logged step, safe against a full disk."""

import csv
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn


class MetricsCSV(Logger):
    """Writes ``metrics.csv`` with the columns ``step``, then one a metric in the order of their first appearance.

    Rows are appended; when a new metric appears, the file is written anew beside the old one and replaces it. If the
    disk is full, the run goes on: rows wait in memory, one warning tells, and they are written when there is room.

    Args:
        folder: The run folder.
    """

    FILE = "metrics.csv"

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._columns = ["step"]
        self._written: list[dict[str, float]] = []
        self._waiting: list[dict[str, float]] = []
        self._header_changed = True
        self._warned = False

    @property
    def name(self) -> str:
        """The name of the config that runs."""
        return self.folder.parent.name

    @property
    def version(self) -> str:
        """The run's own name."""
        return self.folder.name

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @property
    def save_dir(self) -> str:
        """The run folder, which Lightning asks for under this name."""
        return str(self.folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> "MetricsCSV":
        """The logger itself; there is no client behind it."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved config lies beside the metrics."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one row.

        Args:
            metrics: Scalars by name.
            step: Training steps done.
        """
        row = {"step": float(len(self._written) if step is None else step)}
        row |= {key: float(value) for key, value in metrics.items()}
        if new := [key for key in row if key not in self._columns]:
            self._columns += new
            self._header_changed = True
        self._waiting.append(row)

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that wait; a full disk costs a warning and no row."""
        if not self._waiting:
            return
        try:
            self._rewrite() if self._header_changed else self._append()
        except OSError as error:
            if not self._warned:
                rank_zero_warn(f"{self.path}: metrics cannot be written ({error}); they wait in memory.")
            self._warned = True
            return
        self._written += self._waiting
        self._waiting = []
        self._header_changed = False

    @property
    def rows(self) -> int:
        """How many rows were logged."""
        return len(self._written) + len(self._waiting)

    @rank_zero_only
    def resume(self, rows: int) -> None:
        """Go on after so many rows of the file; those that a killed run wrote after its checkpoint are logged again.

        Args:
            rows: What `rows` was when the checkpoint was written.
        """
        if not self.path.exists():
            return
        with open(self.path, newline="") as file:
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or ["step"])
            self._written = [{key: float(v) for key, v in row.items() if v} for row in islice(reader, rows)]
        self._header_changed = True  # write the file anew, without the rows that go

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    @property
    def path(self) -> Path:
        """The CSV file."""
        return self.folder / self.FILE

    def _text(self, rows: list[dict[str, float]], header: bool) -> bytes:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        for row in rows:
            writer.writerow(row | {"step": int(row["step"])})
        return buffer.getvalue().encode()

    def _rewrite(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_bytes(self._text(self._written + self._waiting, header=True))
        os.replace(beside, self.path)

    def _append(self) -> None:
        size = self.path.stat().st_size
        try:
            with open(self.path, "ab") as file:
                file.write(self._text(self._waiting, header=False))
        except OSError:
            os.truncate(self.path, size)  # no torn row
            raise
