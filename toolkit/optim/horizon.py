"""Learning-rate schedules that know where the training ends."""

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from toolkit.errors import UserError


class HorizonScheduler(LRScheduler, ABC):
    r"""Linear warm-up and then a decay that ends with the training, as a pure function of the step.

    With W warm-up steps of T in all, the optimizer's step t, counted from 0, uses the learning rate of its group times

    .. math::
        i + (1 - i)\, \frac{t + 1}{W + 1} \ \text{for}\ t < W, \qquad
        f + (1 - f)\, \mathrm{decay}\!\left(\frac{t - W}{T - W}\right) \ \text{for}\ W \le t \le T,

    so that the peak falls on step W, and neither the first step nor the last is spent on a learning rate of 0.

    The task tells the horizon when it knows the length of the run, through `set_total_steps`. A checkpoint keeps the
    position only: after a resume the arguments given now decide, and a longer horizon extends the run.

    Args:
        optimizer: The optimizer.
        warmup: W; as a share of T if it is a float, as a number of steps if it is an int.
        total_steps: T, the horizon; None: told later.
        final_lr_ratio: f, what is approached at the end, in multiples of the group's learning rate.
        initial_lr_ratio: i, where the warm-up comes from, likewise.

    Raises:
        UserError: An argument is outside its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: int | float = 0.05,
        total_steps: int | None = None,
        final_lr_ratio: float = 0.0,
        initial_lr_ratio: float = 0.0,
    ) -> None:
        if warmup < 0 or (isinstance(warmup, float) and warmup >= 1):
            raise UserError(f"warmup: need a share in [0, 1) or a whole number of steps, such as 500, got {warmup}.")
        for name, ratio in (("final_lr_ratio", final_lr_ratio), ("initial_lr_ratio", initial_lr_ratio)):
            if not 0 <= ratio <= 1:
                raise UserError(f"{name}: need a number in [0, 1], got {ratio}.")
        self.warmup = warmup
        self.total_steps = None if total_steps is None else _at_least_one(total_steps)
        self.final_lr_ratio = final_lr_ratio
        self.initial_lr_ratio = initial_lr_ratio
        super().__init__(optimizer)

    @abstractmethod
    def decay(self, progress: float) -> float:
        """Falls from 1 to 0 while the progress after the warm-up rises from 0 to 1."""

    def factor(self, step: int) -> float:
        """What the learning rates of a step (counted from 0) are multiplied by.

        Raises:
            UserError: The horizon is not known.
        """
        if self.total_steps is None:
            raise UserError(
                f"{type(self).__name__}: total_steps is not known; give it, or call set_total_steps(n) before training."
            )
        share = isinstance(self.warmup, float)
        warmup_steps = round(self.warmup * self.total_steps) if share else int(self.warmup)
        if step < warmup_steps:
            return self.initial_lr_ratio + (1 - self.initial_lr_ratio) * (step + 1) / (warmup_steps + 1)
        rest = self.total_steps - warmup_steps
        progress = min((step - warmup_steps) / rest, 1.0) if rest > 0 else 1.0
        return self.final_lr_ratio + (1 - self.final_lr_ratio) * self.decay(progress)

    def get_lr(self) -> list[float | Tensor]:
        """Learning rate of each group at the current step; unchanged as long as nothing has been trained or told."""
        if self.total_steps is None and self.last_epoch == 0:
            return [group["lr"] for group in self.optimizer.param_groups]
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def set_total_steps(self, total_steps: int) -> None:
        """Tell the horizon; the learning rates of the current step follow at once.

        Args:
            total_steps: T, at least 1.
        """
        self.total_steps = _at_least_one(total_steps)
        self._apply()

    def _apply(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = [lr.clone() if isinstance(lr, Tensor) else lr for lr in self.get_lr()]

    def state_dict(self) -> dict[str, Any]:
        """The position and the horizon; the shape of the curve is in the arguments."""
        names = ("last_epoch", "total_steps", "_step_count")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a stored position; learning rates and horizon that are already set win over the stored ones."""
        told = self.total_steps
        super().load_state_dict({name: state_dict[name] for name in self.state_dict()})
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = base  # the optimizer's own state has brought the stored one
        if told is not None and told != state_dict["total_steps"]:
            self.total_steps = told
            rank_zero_info(
                f"schedule: horizon {state_dict['total_steps']} -> {told} steps; "
                "the learning rate goes on along the new curve"
            )
        self._apply()


def _at_least_one(total_steps: int) -> int:
    if total_steps < 1:
        raise UserError(f"total_steps: need at least 1, got {total_steps}.")
    return total_steps
