"""The end of a run that is counted in environment steps."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from toolkit.errors import UserError
from toolkit.reinforcement.reinforcement_task import ReinforcementTask


class EnvironmentBudget(Callback):
    """Stops when the agent has taken the DataModule's ``total_steps`` environment steps, over all ranks.

    The last validation comes after the last step. ``trainer.max_epochs: -1`` leaves the end to this callback.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        if not isinstance(pl_module, ReinforcementTask):
            raise UserError(
                f"EnvironmentBudget: counts the steps of an agent, got {type(pl_module).__name__}; remove it from "
                "trainer.callbacks."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that is over stays so."""
        self._stop_if_done(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Look whether it is time."""
        self._stop_if_done(trainer, pl_module)

    def _stop_if_done(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ReinforcementTask)
        total = pl_module.total_steps or getattr(trainer.datamodule, "total_steps", None)  # type: ignore[attr-defined]
        if total and pl_module.counts.steps >= total:
            trainer.should_stop = True
