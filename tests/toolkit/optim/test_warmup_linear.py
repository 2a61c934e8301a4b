import numpy as np
import pytest
import torch

from toolkit.optim.warmup_linear import WarmupLinear


def _schedule(**kwargs):
    return WarmupLinear(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), **kwargs)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (0.2, 0.07)])
def test__is_the_triangle_through_start_peak_and_end(start, end):
    schedule = _schedule(warmup=23, total_steps=100, initial_lr_ratio=start, final_lr_ratio=end)
    steps = np.arange(0, 101)
    expected = np.interp(steps, [-1, 23, 100], [start, 1.0, end])
    assert [schedule.factor(step) for step in steps] == pytest.approx(expected)


def test__no_step_is_spent_on_nothing():
    schedule = _schedule(warmup=0.25, total_steps=8)
    assert min(schedule.factor(step) for step in range(8)) > 0
