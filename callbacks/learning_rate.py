"""The learning rate, once a step."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor

from toolkit.task import Task


class StepLearningRate(LearningRateMonitor):
    """Lightning's monitor, but in the step's row; Lightning writes a row of its own for each accumulated batch."""

    def __init__(self) -> None:
        super().__init__(logging_interval="step")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Note the rate that the step is made with."""
        if trainer._logger_connector.should_update_logs:
            assert isinstance(pl_module, Task)
            pl_module.log_with_step(self._extract_stats(trainer, "any"))
