"""Stages of a network that begin to train one after another."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters
from toolkit.task import Task


class GradualUnfreezing(Callback):
    """Trains the head first, and then stage by stage of what is below it.

    Gradual unfreezing (Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018,
    section 3.3), for any network whose stages `toolkit.nn.backbone.stages_of` knows. A stage that waits gets no
    gradient, and computes as in evaluation. What trains is a function of the epoch alone, so a resumed run goes on
    exactly; the optimizer has had all parameters from the start, and leaves those without a gradient alone. What the
    network itself has frozen stays so.

    Args:
        schedule: From which epoch on (counted from 0) how many stages train, counted from the head; -1: all. One more
            each epoch if None.

    Raises:
        UserError: The schedule does not begin at epoch 0 or names no stage, or DDP does not expect frozen parameters.
    """

    def __init__(self, schedule: dict[int, int] | None = None) -> None:
        if schedule is not None and (0 not in schedule or any(e < 0 or n < -1 or n == 0 for e, n in schedule.items())):
            raise UserError(
                "GradualUnfreezing.schedule: need stages by epoch, from epoch 0 on, at least 1 or -1 for all, such as "
                f"{{0: 1, 1: 3, 2: -1}}; got {dict(schedule)}."
            )
        self.schedule = None if schedule is None else dict(sorted(schedule.items()))
        self._stages: list[list[nn.Parameter]] = []
        self._training: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a strategy that waits for all gradients."""
        if stage != "fit":
            return
        assert isinstance(pl_module, Task)
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
            raise UserError(
                "GradualUnfreezing: under DDP write trainer.strategy: ddp_find_unused_parameters_true, or the ranks "
                "would wait for the gradients of what is frozen."
            )
        self._stages, self._training = [], None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what may train at all, now that every other callback has frozen what it freezes."""
        assert isinstance(pl_module, Task)
        found = stage_parameters(pl_module.net)
        self._stages = [[parameter for parameter in stage if parameter.requires_grad] for stage in found]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what waits; in a resumed run as far as it had come."""
        self._unfreeze(pl_module, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the epoch's stages train."""
        self._unfreeze(pl_module, trainer.current_epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network as it came."""
        self._restore(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise when the fit is broken off."""
        self._restore(pl_module)

    def _restore(self, pl_module: LightningModule) -> None:
        for stage in self._stages:
            for parameter in stage:
                parameter.requires_grad_(True)
        assert isinstance(pl_module, Task)
        pl_module.rest_frozen()
        pl_module.train()

    def stages_at(self, epoch: int) -> int:
        """How many stages train in an epoch, counted from the head.

        >>> [GradualUnfreezing({0: 1, 2: 3, 3: -1}).stages_at(epoch) for epoch in range(4)]
        [1, 1, 3, -1]
        """
        if self.schedule is None:
            return epoch + 1
        return next(number for start, number in reversed(self.schedule.items()) if start <= epoch)

    def _unfreeze(self, pl_module: LightningModule, epoch: int) -> None:
        number = self.stages_at(epoch)
        training = len(self._stages) if number == -1 else min(number, len(self._stages))
        if training == self._training:
            return
        self._training = training
        waiting = len(self._stages) - training
        for place, stage in enumerate(self._stages):
            for parameter in stage:
                parameter.requires_grad_(place >= waiting)
        assert isinstance(pl_module, Task)
        pl_module.rest_frozen()
        pl_module.train()
        rank_zero_info(f"epoch {epoch}: {training} of {len(self._stages)} stages train, counted from the head")
