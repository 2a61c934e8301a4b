"""A callback for the cluster's tests: steps slow enough for a time limit to fall among them."""

import os
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Pace(Callback):
    """Waits ``STEP_SECONDS`` after each training step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
