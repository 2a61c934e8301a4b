"""What a run came to: measured, written to ``summary.json``, and printed as the last lines."""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from toolkit.checkpoint import find_checkpoint, has_checkpoint
from toolkit.types import Baseline


def _cpu_seconds() -> float:
    """User and system time of this process and of its ended children (the DataLoader's workers)."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class RunSummary(Callback):
    """Times the training and collects what the closing lines say.

    Args:
        folder: The run folder.
    """

    FILE = "summary.json"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.values: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks after set-up and sanity check."""
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Note when the first step was done (seconds since the epoch): what a user waits for."""
        if "first_step_at" not in self.values:
            self.values["first_step_at"] = time.time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clocks."""
        self.values |= {
            "train_wall_seconds": time.perf_counter() - self._wall,
            "train_cpu_seconds": _cpu_seconds() - self._cpu,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
            "trained_parameters": sum(p.numel() for p in pl_module.parameters() if p.requires_grad),
        }

    def add_best(self, trainer: Trainer, baseline: Baseline | None) -> None:
        """Add the monitored metric's best value, the naive baseline beside it, and the checkpoint."""
        checkpoint: Any = trainer.checkpoint_callback
        if checkpoint is None:
            return
        score = checkpoint.best_model_score
        self.values |= {
            "monitor": checkpoint.monitor,
            "best": None if score is None else float(score),
            "checkpoint": str(find_checkpoint(self.folder)) if has_checkpoint(self.folder) else None,
        }
        self._add_baseline("val", baseline)

    def add_test(self, metrics: dict[str, float], baseline: Baseline | None) -> None:
        """Add the metrics of an evaluation and the naive baseline on the same split."""
        self.values |= {name: float(value) for name, value in metrics.items()}
        for stage in {name.partition("/")[0] for name in metrics} & {"val", "test"}:
            self._add_baseline(stage, baseline)

    def _add_baseline(self, stage: str, baseline: Baseline | None) -> None:
        if baseline is not None:
            self.values["baseline"] = baseline.name
            self.values |= {f"baseline/{stage}/{name}": value for name, value in baseline.metrics.items()}
            for other in baseline.others:
                for name, value in other.metrics.items():
                    beside = self.values.setdefault("further_baselines", {}).setdefault(f"{stage}/{name}", {})
                    beside[other.name] = value

    def write(self) -> None:
        """Write ``summary.json``, with what the whole process has taken."""
        self.values["process_cpu_seconds"] = _cpu_seconds()
        beside = self.folder / f"{self.FILE}.tmp"
        beside.write_text(json.dumps(self.values, indent=2) + "\n")
        os.replace(beside, self.folder / self.FILE)

    def lines(self, sync_hint: str | None, next_command: str) -> list[str]:
        """The closing lines, each a label and what it is about."""
        values = self.values
        rows = [("run", str(self.folder))]
        if values.get("best") is not None:
            rows.append(("best", self.scored(values["monitor"], values["best"])))
        tested = {name: value for name, value in values.items() if name.startswith("test/")}
        if tested:
            rows.append(("test", ", ".join(self.scored(name, value) for name, value in tested.items())))
        if "train_wall_seconds" in values:
            rows.append(("training", f"{values['train_wall_seconds']:.1f} s, {values['steps']} steps"))
        rows.append(("checkpoint", str(values.get("checkpoint") or "none")))
        rows.append(("wandb", sync_hint or "off"))
        rows.append(("next", next_command))
        return [f"{label:<10}  {text}" for label, text in rows]

    def scored(self, name: str, value: float) -> str:
        """A metric beside the naive baseline, if there is one."""
        stage, _, metric = name.partition("/")
        naive = self.values.get(f"baseline/{stage}/{metric}")
        if naive is None:
            return f"{name} {value:.4f}"
        others = self.values.get("further_baselines", {}).get(name, {})
        naives = ", ".join(
            f"{known} {score:.4f}" for known, score in ({self.values["baseline"]: naive} | others).items()
        )
        return f"{name} {value:.4f} ({naives})"
