"""An exponential moving average of the weights, which validation, test and checkpoints use."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.distributed.tensor import DTensor

from toolkit.errors import UserError


class EMA(Callback):
    """Keeps ``average = decay * average + (1 - decay) * weights``; the first update copies.

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim., 1992, with
    exponential weights. Floating-point buffers (BatchNorm's statistics) are averaged like the parameters, whose
    activations they describe; integer and boolean buffers are copied; what is not in the ``state_dict`` is left alone.

    A checkpoint is laid out as by Lightning's `WeightAveraging`: its ``state_dict`` is the average, and the weights in
    training lie beside it as ``current_model_state``, so a resumed run continues exactly. Unlike there, the average is
    the current weights, not the initial ones, before its first update; its tensors follow the module to its device and
    precision; a checkpoint is right whenever it is taken, also within validation and after the end; a test of a
    checkpoint after the fit tests the average; the task need not bear to be copied; and nothing waits for the GPU.

    Args:
        decay: Share of the old average in the new one, in ``[0, 1)``; the average looks back some ``1 / (1 - decay)``
            updates, of which a run should have many times as many.
        update_every_n_steps: Optimizer steps between two updates.
        start_step: Optimizer steps before the first update.

    Raises:
        UserError: A number out of its range; at the start of a fit, a `ModelCheckpoint` that saves weights only, for
            Lightning asks no callback then and the file would not hold the average.
    """

    def __init__(self, decay: float = 0.999, update_every_n_steps: int = 1, start_step: int = 0) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA.decay: need 0 <= decay < 1, got {decay}.")
        if update_every_n_steps < 1 or start_step < 0:
            raise UserError(
                f"EMA: need update_every_n_steps >= 1 and start_step >= 0, got {update_every_n_steps} and {start_step}."
            )
        self.decay, self.update_every_n_steps, self.start_step = decay, update_every_n_steps, start_step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what was averaged before."""
        self._updates, self._updated_step = 0, 0
        self._swapped = False
        """Whether the module holds the average, and the average's place the weights in training."""
        self._loaded: Mapping[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._floating: list[tuple[Tensor, Tensor]] = []
        self._integer: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pair each tensor of the module with its average; only now has it its device and precision."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.save_weights_only:
                raise UserError("EMA: ModelCheckpoint.save_weights_only would save the raw weights; set it to false.")
        registered = set(map(id, chain(pl_module.parameters(), pl_module.buffers())))
        averages: dict[int, Tensor] = {}  # a tensor with two names has one average
        for name, current in pl_module.state_dict(keep_vars=True).items():
            if id(current) not in registered:  # a metric's state
                continue
            if id(current) not in averages:
                average = current.detach().clone()
                if name in self._loaded:
                    average.copy_(self._loaded[name])
                averages[id(current)] = average
                pairs = self._floating if average.is_floating_point() else self._integer
                pairs.append((average, current))
            self._average[name] = averages[id(current)]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average if it is due."""
        step = trainer.global_step
        if step < self.start_step or step - self._updated_step < self.update_every_n_steps:
            return
        averages, currents = (list(map(_own_part, side)) for side in zip(*self._floating, strict=True))
        torch._foreach_lerp_(averages, currents, 1 - self.decay if self._updates else 1.0)
        for average, current in self._integer:
            average.copy_(current)
        self._updates, self._updated_step = self._updates + 1, step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module."""
        self._swap()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights in training back."""
        self._swap()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._swap()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the model, and the weights in training beside it."""
        if not self._average:
            return
        here = checkpoint["state_dict"]
        there = {name: self._average.get(name, value) for name, value in here.items()} if self._updates else here
        average, current = (here, there) if self._swapped else (there, here)
        checkpoint["state_dict"], checkpoint["current_model_state"] = average, current
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue a fit; to evaluate, the module has the average already."""
        if trainer.state.fn == "fit" and "averaging_state" in checkpoint:
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)
            self._loaded = checkpoint["state_dict"]
            self._updates = int(checkpoint["averaging_state"]["n_averaged"])

    @torch.no_grad()
    def roll_back(self, checkpoint: Mapping[str, Any]) -> None:
        """Put the average of a checkpoint of this run back, in the middle of a fit."""
        for name, average in self._average.items():
            average.copy_(checkpoint["state_dict"][name])
        self._updates = int(checkpoint["averaging_state"]["n_averaged"])

    def state_dict(self) -> dict[str, Any]:
        """The step of the last update."""
        return {"latest_update_step": self._updated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step of the last update."""
        self._updated_step = state_dict["latest_update_step"]

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the average and the weights in training, if there are two."""
        if self._updates:
            for average, current in chain(self._floating, self._integer):
                kept = average.clone()
                average.copy_(current)
                current.copy_(kept)
            self._swapped = not self._swapped


def _own_part(tensor: Tensor) -> Tensor:
    """Of a sharded tensor what this rank has; asked for anew each time, for FSDP may put it elsewhere."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
