"""Warm-up, then a straight line: the triangle."""

from toolkit.optim.horizon import HorizonScheduler


class WarmupLinear(HorizonScheduler):
    """Linear warm-up, then a straight line down to the end of the training.

    Smith, Topin, "Super-Convergence", 2018, without the last, lower phase; Jordan, "94% on CIFAR-10 in 3.29 Seconds on
    a Single GPU", 2024, trains with ``warmup=0.23, initial_lr_ratio=0.2, final_lr_ratio=0.07`` (there the ramp begins
    at step 0 and not one step before it). Arguments and formula: `toolkit.optim.horizon.HorizonScheduler`.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = WarmupLinear(optimizer, warmup=4, total_steps=9)
    >>> [round(schedule.factor(step), 2) for step in range(9)]
    [0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    def decay(self, progress: float) -> float:
        """A straight line."""
        return 1 - progress
