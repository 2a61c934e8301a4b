import math

import pytest
import torch

from toolkit.optim.warmup_cosine import WarmupCosine


def _schedule(**kwargs):
    return WarmupCosine(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), **kwargs)


def test__values_by_hand():
    # W = 3, T = 15: ramp 1/4, 2/4, 3/4, peak at step 3; then 0.1 + 0.9 * (1 + cos(pi * p)) / 2 with p = (t - 3) / 12.
    schedule = _schedule(warmup=0.2, total_steps=15, final_lr_ratio=0.1)
    expected = {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 6: 0.1 + 0.9 * (2 + math.sqrt(2)) / 4, 7: 0.775, 9: 0.55, 11: 0.325}
    assert {step: schedule.factor(step) for step in expected} == pytest.approx(expected)
    assert schedule.factor(15) == pytest.approx(0.1)


def test__decay_matches_torchs_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    schedule = _schedule(warmup=0, total_steps=20)
    for step in range(20):
        assert schedule.factor(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()


def test__decay_is_symmetric_about_its_middle():
    schedule = _schedule(warmup=10, total_steps=110)
    for step in range(51):
        assert schedule.factor(10 + step) + schedule.factor(110 - step) == pytest.approx(1.0)
