"""Batches that would ruin the weights are left out before the optimizer sees them."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from callbacks.ema import EMA
from callbacks.last_checkpoint import LastCheckpoint, finish_writing
from toolkit.checkpoint_io import newest_valid
from toolkit.errors import UserError
from toolkit.metrics.running_means import RunningMeans
from toolkit.task import Task

WARMUP = 50
"""Steps before the mean norm says what a spike is."""


class DivergenceGuard(Callback):
    """Skips a step whose gradient is not finite, or whose norm is a spike; rolls back if that does not help.

    Before the optimizer steps, the norm of all gradients is taken (ranks have the same one). Where it is not finite, or
    above ``spike_factor`` times its running mean, the gradients are dropped, so that weights and optimizer stay; the
    buffers that the forward pass has changed, such as BatchNorm's statistics, are put back; what the step recorded is
    in no mean; and the batch's samples are named in a warning. After ``max_skips`` skipped steps in a row the last
    checkpoint is loaded and the training goes on from there with the batches to come; after ``max_rollbacks`` of these
    it ends.

    Several optimizers have a mean norm each; a training step in which one of them was skipped counts as skipped.

    Args:
        last: Where the last checkpoint is.
        spike_factor: What is a spike, in multiples of the mean norm; none if None.
        max_skips: Steps in a row.
        max_rollbacks: Rollbacks in all.

    Raises:
        UserError: A number is not positive; after too many rollbacks, or when there is no checkpoint to go back to.
    """

    def __init__(
        self, last: LastCheckpoint, spike_factor: float | None = 100.0, max_skips: int = 10, max_rollbacks: int = 3
    ) -> None:
        if (spike_factor is not None and spike_factor <= 1) or max_skips < 1 or max_rollbacks < 0:
            raise UserError(
                f"DivergenceGuard: need spike_factor > 1, max_skips >= 1 and max_rollbacks >= 0, got {spike_factor}, "
                f"{max_skips} and {max_rollbacks}."
            )
        self.last = last
        self.spike_factor = spike_factor
        self.max_skips = max_skips
        self.max_rollbacks = max_rollbacks
        self._state: dict[str, Any] = {"skips": 0, "rollbacks": 0, "is_skipped": False}
        self._norms: list[dict[str, float]] = []
        """Of each optimizer, its good steps and their mean norm."""
        self._samples: list[Tensor] = []
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._means: RunningMeans | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which buffers a forward pass may change, and how many optimizers there are."""
        missing = len(trainer.optimizers) - len(self._norms)
        self._norms += [{"steps": 0, "mean": 0.0} for _ in range(missing)]
        self._buffers = [buffer for name, buffer in pl_module.named_buffers() if name.startswith("net.")]
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._means = pl_module.means("train") if isinstance(pl_module, Task) else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Roll back if it is time; keep what the step may have to be undone with."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            if self._state["skips"] >= self.max_skips:
                self._roll_back(trainer, pl_module)
            if not self._state["is_skipped"]:
                self._state["skips"] = 0
            self._state["is_skipped"] = False
            self._samples = []
            _copy(self._buffers, self._kept)
            if self._means is not None:
                self._before = self._means.snapshot()
        index = getattr(batch, "index", None)
        if isinstance(index, Tensor):
            self._samples.append(index)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the gradients; drop them if they are bad."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        if not math.isfinite(norm) and getattr(trainer.precision_plugin, "scaler", None) is not None:
            return  # float16: the loss scaler skips the step itself, and that is its everyday work
        usual = self._norms[next(i for i, known in enumerate(trainer.optimizers) if known is optimizer)]
        limit = math.inf
        if self.spike_factor is not None and usual["steps"] >= WARMUP:
            limit = self.spike_factor * usual["mean"]
        if math.isfinite(norm) and norm <= limit:
            usual["steps"] += 1
            usual["mean"] += (norm - usual["mean"]) / min(usual["steps"], 2 * WARMUP)
            return
        optimizer.zero_grad(set_to_none=True)  # optimizers leave weights without a gradient alone
        _copy(self._kept, self._buffers)
        self._state["skips"] += not self._state["is_skipped"]
        self._state["is_skipped"] = True
        rank_zero_warn(
            f"step {trainer.global_step}: skipped, the norm of the gradient is {norm:.3g} (mean "
            f"{usual['mean']:.3g}); samples {_numbers(self._samples)}."
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take what a skipped step recorded out of the means, before they are logged."""
        if self._state["is_skipped"] and self._means is not None:
            self._means.rewind(self._before)

    def _roll_back(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finish_writing(trainer)
        checkpoint = newest_valid(self.last.folder)
        if checkpoint is None or self._state["rollbacks"] >= self.max_rollbacks:
            raise UserError(
                f"training diverged: {int(self._state['skips'])} steps in a row had a bad gradient, after "
                f"{int(self._state['rollbacks'])} rollbacks. The last checkpoint is good. Lower the learning rate, "
                "clip gradients (trainer.gradient_clip_val), or look at the samples named above."
            )
        trainer.strategy.barrier()
        content = trainer.strategy.load_checkpoint(checkpoint, weights_only=True)
        pl_module.load_state_dict(content.get("current_model_state", content["state_dict"]))
        for optimizer, state in zip(trainer.optimizers, content["optimizer_states"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # the schedule goes on
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EMA):
                callback.roll_back(content)
        self._state["skips"] = 0
        self._state["rollbacks"] += 1
        rank_zero_warn(f"step {trainer.global_step}: rolled back to {str(checkpoint)!r} after bad gradients in a row.")

    def state_dict(self) -> dict[str, Any]:
        """Counts and mean norms."""
        return self._state | {"norms": [dict(norm) for norm in self._norms]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._norms = [dict(norm) for norm in state_dict["norms"]]
        self._state = {name: state_dict[name] for name in self._state}


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)


def _numbers(samples: list[Tensor]) -> str:
    numbers = torch.cat(samples).tolist() if samples else []
    return f"{numbers[:20]}{'...' if len(numbers) > 20 else ''}"
