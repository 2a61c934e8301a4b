"""The checkpoint to predict with."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from callbacks.last_checkpoint import finish_writing
from toolkit.checkpoint_io import checkpoint_path, make_room
from toolkit.errors import UserError


class BestCheckpoint(Checkpoint):
    """Writes ``best.ckpt`` after a validation that scored better than all before; the second best is ``best-2.ckpt``.

    Each name holds a whole checkpoint at all times. A score that is not finite is never the best.

    Args:
        folder: Where they go.
        monitor: The metric that says which is best; None writes none.
        mode: Whether it is better when small or large.
        keep: How many are kept.

    Raises:
        UserError: ``keep`` is not positive; after a validation, there is no such metric.
    """

    def __init__(
        self, folder: str | Path, monitor: str | None, mode: Literal["min", "max"] = "min", keep: int = 1
    ) -> None:
        if keep < 1:
            raise UserError(f"BestCheckpoint.keep: need a positive number, got {keep}.")
        self.folder = Path(folder).absolute()
        self.monitor = monitor
        self.mode = mode
        self.keep = keep
        self.scores: list[float] = []
        """Of those that are kept, best first."""

    @property
    def best_model_path(self) -> str:
        """The best checkpoint, empty if there is none; Lightning asks for it under this name."""
        return str(checkpoint_path(self.folder, "best", 1)) if self.scores else ""

    @property
    def best_model_score(self) -> Tensor | None:
        """Its score."""
        return torch.tensor(self.scores[0]) if self.scores else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn rank 0's folder."""
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and write."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"BestCheckpoint.monitor: no metric {self.monitor!r} was logged; there are "
                f"{', '.join(sorted(trainer.callback_metrics))}."
            )
        score = float(trainer.callback_metrics[self.monitor])
        sign = 1 if self.mode == "min" else -1
        place = sum(sign * other <= sign * score for other in self.scores) + 1
        if not math.isfinite(score) or place > self.keep:
            return
        self.scores = [*self.scores[: place - 1], score, *self.scores[place - 1 :]][: self.keep]
        finish_writing(trainer)
        if trainer.is_global_zero:
            make_room(self.folder, "best", place, self.keep)
        trainer.save_checkpoint(checkpoint_path(self.folder, "best", place), weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The scores."""
        return {"scores": self.scores, "monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores, if they are of the same metric and their files lie here."""
        if state_dict["monitor"] == self.monitor and checkpoint_path(self.folder, "best", 1).exists():
            self.scores = list(state_dict["scores"])
