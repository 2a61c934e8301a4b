"""Ranks with different numbers of batches are refused before one of them waits for ever."""

import math

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from toolkit.errors import UserError


class EqualBatches(Callback):
    """Compares the ranks' numbers of batches at the start of a training.

    The DataModules here deal them out equally; a user's own loader need not.

    Raises:
        UserError: On all ranks, if they differ, or if a loader on several ranks does not say how many it has.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare."""
        if trainer.world_size == 1:
            return
        own = {"training": trainer.num_training_batches, "validation": sum(trainer.num_val_batches)}
        ranks: list[dict[str, float]] = [{}] * trainer.world_size
        torch.distributed.all_gather_object(ranks, own)
        for kind in own:
            counts = [rank[kind] for rank in ranks]
            flag = "trainer.limit_train_batches" if kind == "training" else "trainer.limit_val_batches"
            if math.inf in counts:
                raise UserError(
                    f"data: the {kind} loader has no length, so the ranks may get different numbers of batches and "
                    f"wait for each other for ever; give it a __len__, or set {flag} to what every rank has."
                )
            if len(set(counts)) > 1:
                listed = ", ".join(f"rank {rank}: {count}" for rank, count in enumerate(counts[:8]))
                raise UserError(
                    f"data: the ranks have different numbers of {kind} batches ({listed}"
                    f"{', ...' if len(counts) > 8 else ''}), so one would wait for the others for ever; deal them "
                    f"equally, as datamodules.base does, or set {flag} to {min(counts)}."
                )
