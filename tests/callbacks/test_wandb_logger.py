import json
from pathlib import Path
from typing import Any

import pytest

from callbacks.wandb_logger import QuietWandbLogger


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def modes_tried(monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...] = ()) -> list[str]:
    tried: list[str] = []

    def init(self: QuietWandbLogger, mode: str) -> Any:
        tried.append(mode)
        if mode in failing:
            raise ConnectionError("unreachable")
        return object()

    monkeypatch.setattr(QuietWandbLogger, "_init", init)
    return tried


def test_offline_without_login_and_the_hint_is_a_command(tmp_path: Path) -> None:
    logger = QuietWandbLogger(tmp_path, name="a/b")
    logger.log_metrics({"loss": 1.0}, step=3)
    hint = logger.sync_hint()
    logger.close()
    assert hint is not None
    command, verb, folder = hint.split()
    assert (command, verb) == ("wandb", "sync")
    assert list(Path(folder).glob("*.wandb"))
    assert Path(folder).is_relative_to(tmp_path)


def test_online_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = modes_tried(monkeypatch)
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert QuietWandbLogger(tmp_path).experiment
    assert tried == ["online"]


def test_mode_variable_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = QuietWandbLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=0)
    assert logger.sync_hint() is None
    logger.close()


@pytest.mark.parametrize(
    ("failing", "expected"),
    [(("online",), ["online", "offline"]), (("online", "offline"), ["online", "offline", "disabled"])],
)
def test_failure_costs_a_warning_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...], expected: list[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    tried = modes_tried(monkeypatch, failing)
    logger = QuietWandbLogger(tmp_path)
    with pytest.warns(UserWarning, match="cannot start"):
        assert logger.experiment
    assert tried == expected


def test_resume_is_allowed_whatever_the_caller_says(tmp_path: Path) -> None:
    logger = QuietWandbLogger(tmp_path / "abc")
    assert logger._wandb_init["resume"] == "allow"
    assert logger._wandb_init["id"] == "abc"
    assert json.dumps(logger._wandb_init)


def test_a_resumed_run_keeps_its_id_and_hands_no_row_over_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after five rows, resumed from a checkpoint of the third."""
    handed: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "lightning.pytorch.loggers.WandbLogger.log_metrics",
        lambda self, metrics, step: handed.append((step, self._wandb_init["id"])),
    )
    folder = tmp_path / "20261123-120000-ab12"
    killed = QuietWandbLogger(folder)
    for step in range(5):
        killed.log_metrics({"loss": 1.0}, step)
    resumed = QuietWandbLogger(folder)
    resumed.resume(3)
    for step in range(3, 8):
        resumed.log_metrics({"loss": 1.0}, step)
    assert handed == [(step, folder.name) for step in range(8)]
    resumed.log_media({"picture": 1}, 8)
    assert len(handed) == 9
    resumed.log_metrics({"loss": 1.0}, 8)
    assert len(handed) == 10
