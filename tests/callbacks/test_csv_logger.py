import csv
import os
from pathlib import Path

import pytest

from callbacks.csv_logger import MetricsCSV


def rows(logger: MetricsCSV) -> list[dict[str, str]]:
    with open(logger.path) as file:
        return list(csv.DictReader(file))


def test_new_metrics_become_columns_and_old_rows_stay(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "name" / "run")
    logger.log_metrics({"train/loss": 2.0}, step=0)
    logger.save()
    logger.log_metrics({"train/loss": 1.0}, step=1)
    logger.save()
    logger.log_metrics({"val/acc": 0.5}, step=1)
    logger.save()
    assert rows(logger) == [
        {"step": "0", "train/loss": "2.0", "val/acc": ""},
        {"step": "1", "train/loss": "1.0", "val/acc": ""},
        {"step": "1", "train/loss": "", "val/acc": "0.5"},
    ]
    assert (logger.name, logger.version) == ("name", "run")


def test_full_disk_costs_one_warning_and_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a row reaches the disk, then the disk is full: the torn half goes, the rows wait, and are written later."""
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"loss": 3.0}, step=0)
    logger.save()

    class FullDisk:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = os.open(path, os.O_WRONLY | os.O_APPEND)

        def __enter__(self) -> "FullDisk":
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self.file)

        def write(self, content: bytes) -> None:
            os.write(self.file, content[:2])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("builtins.open", FullDisk)
        logger.log_metrics({"loss": 2.0}, step=1)
        with pytest.warns(UserWarning, match="No space left"):
            logger.save()
        logger.save()  # no second warning: warnings are errors here
    assert [row["loss"] for row in rows(logger)] == ["3.0"]
    logger.log_metrics({"loss": 1.0}, step=2)
    logger.finalize("success")
    assert [row["loss"] for row in rows(logger)] == ["3.0", "2.0", "1.0"]


def test_full_disk_while_a_column_is_added_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"loss": 3.0}, step=0)
    logger.save()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        logger.log_metrics({"acc": 0.1}, step=1)
        with pytest.warns(UserWarning, match="No space left"):
            logger.save()
    assert rows(logger) == [{"step": "0", "loss": "3.0"}]
    logger.save()
    assert rows(logger)[1] == {"step": "1", "loss": "", "acc": "0.1"}
