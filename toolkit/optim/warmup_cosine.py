"""Warm-up, then half a cosine."""

import math

from toolkit.optim.horizon import HorizonScheduler


class WarmupCosine(HorizonScheduler):
    """Linear warm-up, then half a cosine down to the end of the training.

    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5, without restarts.
    Arguments and formula: `toolkit.optim.horizon.HorizonScheduler`.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = WarmupCosine(optimizer, warmup=4, total_steps=10)
    >>> [round(schedule.factor(step), 2) for step in range(10)]
    [0.2, 0.4, 0.6, 0.8, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """

    def decay(self, progress: float) -> float:
        """Half a cosine."""
        return (1 + math.cos(math.pi * progress)) / 2
