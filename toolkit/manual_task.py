"""A task with several optimizers, of whose work the Trainer still counts one thing: training steps."""

import contextlib
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.utilities import _block_parallel_sync_behavior
from lightning.pytorch.utilities.types import OptimizerConfig, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from toolkit.errors import UserError
from toolkit.global_mean import parameters_of
from toolkit.task import Task

Piece = TypeVar("Piece")


class ManualTask(Task, ABC):
    """A task whose `step` does its own optimizer steps in training, with `descend`.

    However many steps of however many optimizers a training step holds, ``trainer.global_step`` grows by one: so
    ``max_steps``, schedules, checkpoints, logs and the x axis mean the same as in any other task. The gradients of
    ranks are averaged here, once an optimizer step, and not by DDP's hooks, which expect one backward pass through all
    parameters; plain ``strategy=ddp`` will do. All optimizers and schedulers are in the checkpoint.

    The Trainer's ``gradient_clip_val`` and ``accumulate_grad_batches`` cannot know which optimizer is meant, and are
    refused. Here they are arguments. Accumulation is within the batch: a training step is always one
    batch of the loader, computed in so many parts, so that ``data.batch_size`` stays the size of the step.

    Args:
        net: The network.
        gradient_clip_val: Largest norm of the gradient of each optimizer; none if None.
        accumulate: Parts that a batch is computed in, one after the other: less memory, the same step.
        **options: Of `Task`.

    Raises:
        UserError: A number is not positive; at a fit's start, the Trainer has such a flag.
    """

    def __init__(
        self, net: nn.Module, *, gradient_clip_val: float | None = None, accumulate: int = 1, **options: Any
    ) -> None:
        if accumulate < 1 or (gradient_clip_val is not None and gradient_clip_val <= 0):
            raise UserError(
                f"model.init_args: need accumulate >= 1 and gradient_clip_val > 0, got {accumulate} and "
                f"{gradient_clip_val}; leave gradient_clip_val out for no clipping."
            )
        super().__init__(net, **options)
        self.automatic_optimization = False
        self.gradient_clip_val = gradient_clip_val
        self.accumulate = accumulate

    def configure_callbacks(self) -> list[Callback]:
        """None; it is the first hook of a fit, so that these flags can be refused in other words than Lightning's."""
        if self.trainer.state.fn != "fit":
            return []
        if self.trainer.gradient_clip_val:
            raise UserError(
                f"trainer.gradient_clip_val: {type(self).__name__} clips each optimizer's gradient itself; write "
                f"model.init_args.gradient_clip_val: {self.trainer.gradient_clip_val}."
            )
        if self.trainer.accumulate_grad_batches != 1:
            raise UserError(
                f"trainer.accumulate_grad_batches: {type(self).__name__} steps its optimizers within a batch, got "
                f"{self.trainer.accumulate_grad_batches}; leave it out, and see its arguments for smaller parts."
            )
        return []

    # A training step --------------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Let `step` step its optimizers; count once, and move the schedules once."""
        with self._counting_once():
            loss = self.step(batch, "train").loss
        self._move_schedules("step", self.trainer.global_step)
        return loss.detach()

    def descend(self, number: int, loss_of: Callable[[Piece], Tensor], pieces: Sequence[Piece]) -> Tensor:
        """One step of one optimizer, down the mean of the pieces' losses.

        Args:
            number: Which optimizer, in the order of `configure_optimizers`; the others' parameters are held.
            loss_of: From a piece to a scalar.
            pieces: Parts of a batch, of equal size or nearly so.

        Returns:
            The mean loss, detached.
        """
        optimizer = self._optimizer_list()[number]
        losses = []
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        for piece in pieces:
            loss = loss_of(piece)
            with _block_parallel_sync_behavior(self.trainer.strategy, block=True):
                self.manual_backward(loss / len(pieces))
            losses.append(loss.detach())
        self._average_over_ranks(parameters_of(optimizer.optimizer))
        optimizer.step()
        self.untoggle_optimizer(optimizer)
        return torch.stack(losses).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip, when precision has unscaled the gradients and the callbacks have looked at them."""
        if self.gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), self.gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """Log, and move the schedules that count epochs; those that watch a metric have this epoch's validation."""
        super().on_train_epoch_end()
        self._move_schedules("epoch", self.trainer.current_epoch + 1)

    def _scheduled(self, optimizer: Optimizer) -> OptimizerConfig | OptimizerLRSchedulerConfig:
        """Without the monitor, which Lightning would warn that it ignores."""
        scheduled = super()._scheduled(optimizer)
        scheduler: Any = scheduled.get("lr_scheduler", {})
        scheduler.pop("monitor", None)
        return scheduled

    def _optimizer_list(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    @contextlib.contextmanager
    def _counting_once(self) -> Iterator[None]:
        """Take from all optimizers the hooks by which Lightning's loop counts their steps; call them once instead."""
        optimizers = self._optimizer_list()
        before, after = optimizers[0]._on_before_step, optimizers[0]._on_after_step
        for optimizer in optimizers:
            optimizer._on_before_step = optimizer._on_after_step = _nothing
        yield
        before()
        after()

    def _average_over_ranks(self, parameters: Iterable[Tensor]) -> None:
        if self.trainer.world_size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.nn.utils.parameters_to_vector(gradients)
        torch.distributed.all_reduce(flat)
        torch.nn.utils.vector_to_parameters(flat / self.trainer.world_size, gradients)

    def _move_schedules(self, interval: str, count: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval != interval or count % config.frequency:
                continue
            if isinstance(config.scheduler, ReduceLROnPlateau):
                monitor = self.scheduler_config.monitor or self.monitor
                value = self.trainer.callback_metrics.get(monitor)
                if value is None:
                    raise UserError(
                        f"model.init_args.scheduler: ReduceLROnPlateau watches {monitor!r}, which was not "
                        f"logged; there is {', '.join(sorted(self.trainer.callback_metrics))}."
                    )
                config.scheduler.step(float(value))
            else:
                config.scheduler.step()


def _nothing() -> None:
    return None
