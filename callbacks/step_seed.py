"""Random numbers of a training step that depend on the step alone: dropout is the same before and after a resume."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from toolkit.keys import single_key

_RANKS = 2**20
"""More processes than any run has; keeps (batch, rank) distinct."""


class StepSeed(Callback):
    """Seeds torch's generators before each training step from (seed, epoch, batch, rank).

    So a step's noise is a function, and there is no state of a generator to save. Ranks draw different noise.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the CPU's generator and that of the training device."""
        place = batch_idx * _RANKS + trainer.global_rank
        seed = single_key(self.seed, trainer.current_epoch, place) & 0xFFFFFFFF  # what the CPU's generator reads
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
