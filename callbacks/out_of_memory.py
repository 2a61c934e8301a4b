"""A batch that does not fit into memory is computed in parts; the step stays that of the whole batch."""

import contextlib
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from lightning.pytorch.loops.utilities import _block_parallel_sync_behavior
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from callbacks.throughput import batch_length
from toolkit.errors import UserError
from toolkit.task import Task


class OutOfMemory(Callback):
    """Halves the microbatch when a training step runs out of memory, and does the step again.

    The gradients of the parts add up to that of the batch, so batch size, learning rate and schedule stay; only
    BatchNorm's statistics, dropout's noise and the partners of mixing are a part's own. It is told once, and noted in
    the run folder, so that a resumed run begins with it. Several ranks cannot agree in the middle of a backward pass:
    there the run ends, and goes on in parts when it is resumed. Tasks with several optimizers, and those whose loss is
    no mean over samples, are left alone.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.note = Path(folder).absolute() / "microbatches.txt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn rank 0's folder, and what it notes of an earlier part of the run."""
        self.note = trainer.strategy.broadcast(self.note)
        self.parts = trainer.strategy.broadcast(int(self.note.read_text()) if self.note.exists() else 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the loop that catches the error in place of Lightning's."""
        if isinstance(pl_module, Task) and pl_module.automatic_optimization and pl_module.is_mean_over_samples:
            loop = trainer.fit_loop.epoch_loop
            microbatched = MicrobatchedOptimization(trainer, pl_module, self)
            microbatched.optim_progress = loop.automatic_optimization.optim_progress
            loop.automatic_optimization = microbatched


class MicrobatchedOptimization(_AutomaticOptimization):
    """Lightning's step of one optimizer, in as many parts as fit into memory.

    Args:
        trainer: Whose loop this is part of.
        task: What is trained.
        choice: Knows the number of parts.
    """

    def __init__(self, trainer: Trainer, task: Task, choice: OutOfMemory) -> None:
        super().__init__(trainer)
        self.task = task
        self.means = task.means("train")
        self.choice = choice
        self._window: list[tuple[int, Any]] = []
        self._in_closure = False

    def run(self, optimizer: Any, batch_idx: int, kwargs: Any) -> dict[str, Any]:
        """Run a batch; if it does not fit, it and those accumulated before it anew in smaller parts."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._window = []
            self._before = self.means.snapshot()
        self._window.append((batch_idx, kwargs))
        output = self._attempt(optimizer, redo=False)
        while output is None:
            output = self._attempt(optimizer, redo=True)
        if not self.trainer.fit_loop._should_accumulate():
            self._window = []  # its batches are large
        return output

    def _attempt(self, optimizer: Any, redo: bool) -> dict[str, Any] | None:
        """The output of the last batch, or None if memory was short; then nothing holds on to the failed graph."""
        try:
            if redo:
                self._redo(optimizer)
            return super().run(optimizer, *self._window[-1])
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            if not self._in_closure:
                raise UserError(
                    f"out of memory in the optimizer's own step, which no smaller batch avoids: {error}"
                ) from error
            reason = str(error).splitlines()[0]
        self._halve(reason)
        return None

    def _redo(self, optimizer: Any) -> None:
        """Accumulate the gradients of the batches before the last one again: the failed pass may have added to them."""
        progress = self.optim_progress.optimizer.step
        progress.total.ready, progress.current.ready = progress.total.completed, progress.current.completed
        self.task.begin_global_mean()
        self.means.rewind(self._before)
        optimizer.zero_grad()
        for batch_idx, kwargs in self._window[:-1]:
            with _block_parallel_sync_behavior(self.trainer.strategy, block=True):
                self._make_closure(kwargs, optimizer, batch_idx)()

    def _halve(self, reason: str) -> None:
        self._in_closure = False
        size = batch_length(self._window[-1][1]["batch"])
        if self.choice.parts >= size:
            raise UserError(
                f"out of memory, although the batch of {size} is computed in parts of one: {reason}. Use a smaller "
                "network or input, or trainer.precision=bf16-mixed."
            )
        self.choice.parts *= 2
        with contextlib.suppress(OSError):  # then a resumed run finds out again
            self.choice.note.write_text(str(self.choice.parts))
        parts = f"{self.choice.parts} parts of up to {math.ceil(size / self.choice.parts)}"
        if self.trainer.world_size > 1:
            raise UserError(
                f"rank {self.trainer.global_rank} is out of memory: {reason}. Resume the run: it will go on with each "
                f"batch in {parts}."
            )
        rank_zero_warn(f"out of memory: {reason}. Each batch is computed in {parts} from now on; the step is the same.")
        garbage_collection_cuda()

    def _make_closure(self, kwargs: Any, optimizer: Any, batch_idx: int) -> Closure:
        backward, zero_grad = self._make_backward_fn(optimizer), self._make_zero_grad_fn(batch_idx, optimizer)
        return _Parts(self, kwargs, backward, zero_grad)


class _Parts(Closure):
    """Training step and backward pass of each part in turn; gradients add up."""

    def __init__(self, loop: MicrobatchedOptimization, kwargs: Any, backward: Any, zero_grad: Any) -> None:
        super().__init__(lambda: loop._training_step(kwargs), backward, zero_grad)
        self.loop = loop
        self.kwargs = kwargs

    def closure(self, *args: Any, **kwargs: Any) -> ClosureResult:
        """What Lightning's does, once a part."""
        self.loop._in_closure = True
        number = self.loop.choice.parts
        output = super().closure() if number == 1 else self._in_parts(number)
        self.loop._in_closure = False
        return output

    def _in_parts(self, number: int) -> ClosureResult:
        losses = []
        batch = self.kwargs["batch"]
        size = batch_length(batch)
        rows = torch.arange(size).tensor_split(min(number, size))
        for place, row in enumerate(rows):
            part = {**self.kwargs, "batch": _rows(batch, size, int(row[0]), int(row[-1]) + 1)}
            with (
                _block_parallel_sync_behavior(self.loop.trainer.strategy, block=place < len(rows) - 1),
                self.loop.task.part_of_batch(len(row) / size),
            ):
                self._step_fn = lambda part=part: self.loop._training_step(part)  # type: ignore[misc]
                loss = super().closure().loss
                assert loss is not None, "a training step gives a loss"
                losses.append(loss)
            self._zero_grad_fn = None  # gradients add up from the first part on
        return ClosureResult(torch.stack(losses).mean())


def _rows(batch: Any, size: int, first: int, end: int) -> Any:
    return apply_to_collection(batch, Tensor, lambda t: t[first:end] if t.ndim and len(t) == size else t)
