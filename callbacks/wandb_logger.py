"""Weights & Biases that is never in the way: online with a login, offline without, a warning when it cannot start."""

import contextlib
import netrc
import os
import threading
import traceback
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from wandb.sdk.lib import RunDisabled
    from wandb.wandb_run import Run

START_SECONDS = 6.0
"""How long an unreachable server may hold up a run; W&B's own default is 90."""
ANSWER_SECONDS = 6.0
"""How long a slow server may hold up a table, or the end; W&B itself waits for minutes."""


class QuietWandbLogger(WandbLogger):
    """Lightning's logger with three promises: no prompt, no long wait, no crash.

    Mode, in this order: ``WANDB_MODE`` if set; online if a key is found (``WANDB_API_KEY`` or netrc); else offline,
    with the command that uploads the run printed at the end. A server that does not answer at the start turns the run
    offline; one that is slow at the end is not waited for; W&B failing at any time costs a warning.

    A resumed run continues the same W&B run, whose id is the run folder's name; rows that were handed over before the
    interruption are not handed over again.

    Args:
        folder: The run folder; W&B's files go to its subfolder ``wandb``.
        project: The W&B project.
        name: The run's displayed name.
        entity: Team or user; W&B's default if None.
        tags: Tags of the run.
        x_axis: Over which of the logged values W&B draws the others.
    """

    def __init__(
        self,
        folder: str | Path,
        project: str = "fulgurite",
        name: str | None = None,
        entity: str | None = None,
        tags: list[str] | None = None,
        x_axis: str = "trainer/global_step",
    ) -> None:
        # Absolute: W&B's service process keeps the working directory it was started in.
        # From a CLI, WandbLogger would receive resume=None, which overrides its own "allow".
        super().__init__(
            name=name,
            save_dir=str(Path(folder).absolute()),
            project=project,
            id=Path(folder).name,
            entity=entity,
            tags=tags,
            resume="allow",
        )
        self.x_axis = x_axis
        self._marker = Path(folder).absolute() / "wandb" / "rows.txt"
        self._marker_file: int | None = None
        self._row = 0
        self._is_lost = False
        """Whether W&B has failed in the middle of the run."""
        self._handed_over = int(self._marker.read_text()) if self._marker.exists() else 0
        del self._wandb_init["anonymous"]  # W&B warns about it whatever its value

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run | RunDisabled":
        """The W&B run, started on first use."""
        if self._experiment is None:
            self._experiment = self._start()
        return self._experiment

    def _start(self) -> "Run | RunDisabled":
        if not os.environ.get("WANDB_MODE", "unset"):
            del os.environ["WANDB_MODE"]  # set to nothing, which W&B takes for a mistake
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's own telemetry, which waits at exit
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        for attempt in dict.fromkeys([mode, "offline", "disabled"]):
            try:
                return self._init(attempt)
            except Exception as error:
                rank_zero_warn(f"wandb: cannot start in mode {attempt!r} ({type(error).__name__}: {error}).")
                self._teardown()
        self._is_lost = True
        return _DummyExperiment()  # type: ignore[return-value]  # takes all and does nothing

    def _init(self, mode: str) -> "Run | RunDisabled":
        import wandb

        Path(self._wandb_init["dir"]).mkdir(parents=True, exist_ok=True)
        # The run folder has git state and command line, with secrets masked; W&B would take them as they are.
        settings = wandb.Settings(
            init_timeout=START_SECONDS, silent=True, console="off", disable_git=True, x_disable_meta=True
        )
        run = wandb.init(**self._wandb_init, mode=mode, settings=settings)  # type: ignore[arg-type]
        run.define_metric("trainer/global_step")
        run.define_metric(self.x_axis)
        run.define_metric("*", step_metric=self.x_axis, step_sync=True)
        return run

    @staticmethod
    def _teardown() -> None:
        import wandb

        try:
            wandb.teardown()
        except Exception as error:
            rank_zero_warn(f"wandb: cannot be shut down ({error}).")

    def resume(self, rows: int) -> None:
        """Go on after so many rows.

        Args:
            rows: How many were logged when the checkpoint was written.
        """
        self._row = rows

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Hand the config over."""
        self._hand_over(lambda: super(QuietWandbLogger, self).log_hyperparams(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand a row over, unless that was done before an interruption."""
        self._row += 1
        if self._row <= self._handed_over:
            return
        self._hand_over(lambda: super(QuietWandbLogger, self).log_metrics(metrics, step))
        if not self._is_lost:
            self._handed_over = self._row
            with contextlib.suppress(OSError):  # a full disk costs a repeated row after a resume
                if self._marker_file is None:
                    self._marker.parent.mkdir(parents=True, exist_ok=True)
                    self._marker_file = os.open(self._marker, os.O_WRONLY | os.O_CREAT)
                os.pwrite(self._marker_file, b"%020d" % self._row, 0)

    @rank_zero_only
    def log_media(self, media: Mapping[str, Any], step: int) -> None:
        """Hand pictures and tables over, which are no rows; of a table W&B asks its server something, and waits."""
        if not self._is_lost:
            hand_over = super().log_metrics
            failure = _failure_within(ANSWER_SECONDS, lambda: hand_over(media, step))
            if failure is not None:
                self._lose(failure)

    def _hand_over(self, hand_over: Callable[[], None]) -> None:
        """Call W&B, whose service may have died since; then nothing more is handed over."""
        if self._is_lost:
            return
        try:
            hand_over()
        except Exception as error:
            self._lose(f"{type(error).__name__}: {error}")

    def _lose(self, failure: str) -> None:
        self._is_lost = True
        rank_zero_warn(f"wandb: lost ({failure}); the run goes on without, metrics.csv has all.")

    def sync_hint(self) -> str | None:
        """One line that says where the run is, or how to upload it; None if W&B is off."""
        run = self._experiment
        if run is None or run.disabled:
            return None
        if run.offline:
            folder = Path(run.dir).parent
            if len(list(folder.parent.glob("offline-run-*"))) > 1:  # interrupted and resumed
                folder = folder.parent / "offline-run-*"
            return f"wandb sync {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}"
        return run.url

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing while the process lives: a test after the fit logs to the same run; `close` ends it."""

    @rank_zero_only
    def close(self, exit_code: int = 0) -> None:
        """End the W&B run; what a slow server did not get can be uploaded later."""
        run, self._experiment = self._experiment, None
        if self._marker_file is not None:
            os.close(self._marker_file)
            self._marker_file = None
        if run is None:
            return
        seconds = 1.0 if self._is_lost else ANSWER_SECONDS
        failure = _failure_within(seconds, lambda: run.finish(exit_code=exit_code))
        if failure is not None:
            if not self._is_lost:
                rank_zero_warn(
                    f"wandb: {failure} at the end; the rest is uploaded by: wandb sync {Path(run.dir).parent}"
                )
            _silence_threads_of_wandb()
            _failure_within(1.0, self._teardown)

    def __reduce__(self) -> Any:
        raise TypeError("start processes with strategy 'ddp', not 'ddp_spawn': a W&B run cannot be pickled.")


def _failure_within(seconds: float, call: Callable[[], None]) -> str | None:
    """What went wrong in a call, or that it lasts too long and is left alone; None if it went well."""
    outcome: list[str | None] = []

    def run() -> None:
        try:
            call()
            outcome.append(None)
        except Exception as error:
            outcome.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} s"


def _silence_threads_of_wandb() -> None:
    """What W&B's own threads raise when they are left behind is of no use to anybody."""
    show = threading.excepthook

    def hook(args: Any) -> None:
        frames = traceback.walk_tb(args.exc_traceback)
        if not any(frame.f_globals.get("__name__", "").startswith("wandb.") for frame, _ in frames):
            show(args)

    threading.excepthook = hook


def _has_key() -> bool:
    """Whether W&B would find a key without asking anybody."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
