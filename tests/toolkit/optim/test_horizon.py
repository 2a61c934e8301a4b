import logging

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LRSchedulerCallable

from toolkit.errors import UserError
from toolkit.optim.horizon import HorizonScheduler
from toolkit.optim.warmup_cosine import WarmupCosine
from toolkit.optim.warmup_linear import WarmupLinear

# Warnings are errors in these tests, so each also shows that torch finds nothing to warn of.


def _optimizer(*rates):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (1.0,)]
    return torch.optim.SGD(groups)


def _train(scheduler, steps):
    """Step as Lightning does; the learning rates that the optimizer used."""
    used = []
    for _ in range(steps):
        used.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return used


def test__base_is_abstract():
    with pytest.raises(TypeError, match="decay"):
        HorizonScheduler(_optimizer())


@pytest.mark.parametrize("schedule", [WarmupCosine, WarmupLinear])
def test__stepping_equals_the_closed_form(schedule):
    scheduler = schedule(_optimizer(1.0, 0.1), warmup=0.2, total_steps=50, final_lr_ratio=0.05)
    expected = [[scheduler.factor(step), 0.1 * scheduler.factor(step)] for step in range(60)]
    assert _train(scheduler, 60) == expected
    assert expected[49] != expected[50] == expected[59] == [0.05, 0.1 * 0.05]


def test__horizon_told_later_sets_the_first_learning_rate_at_once():
    scheduler = WarmupCosine(_optimizer(2.0), warmup=4)
    assert scheduler.get_last_lr() == [2.0]
    scheduler.set_total_steps(20)
    assert scheduler.optimizer.param_groups[0]["lr"] == 2.0 * 1 / 5
    assert scheduler.get_last_lr() == [2.0 * 1 / 5]
    assert _train(scheduler, 20) == _train(WarmupCosine(_optimizer(2.0), warmup=4, total_steps=20), 20)


def test__stepping_without_a_horizon_raises():
    scheduler = WarmupCosine(_optimizer())
    scheduler.optimizer.step()
    with pytest.raises(UserError, match=r"WarmupCosine: total_steps is not known.*set_total_steps"):
        scheduler.step()


def test__tensor_learning_rates_keep_their_storage():
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate, capturable=False, foreach=False)
    scheduler = WarmupLinear(optimizer, warmup=1)
    scheduler.set_total_steps(3)
    assert optimizer.param_groups[0]["lr"] is rate
    assert [round(value[0], 6) for value in _train(scheduler, 3)] == [0.5, 1.0, 0.5]


def _interrupted(at, total_steps, resumed_total_steps):
    first = WarmupCosine(_optimizer(1.0, 0.1), warmup=0.1, total_steps=total_steps)
    used = _train(first, at)
    second = WarmupCosine(_optimizer(1.0, 0.1), warmup=0.1)
    second.set_total_steps(resumed_total_steps)
    second.optimizer.load_state_dict(first.optimizer.state_dict())  # Lightning's order: optimizer, then scheduler
    second.load_state_dict(first.state_dict())
    return used, second


def test__resume_is_exact(caplog):
    used, scheduler = _interrupted(at=37, total_steps=100, resumed_total_steps=100)
    whole = _train(WarmupCosine(_optimizer(1.0, 0.1), warmup=0.1, total_steps=100), 100)
    assert used + _train(scheduler, 63) == whole
    assert "horizon" not in caplog.text


def test__longer_horizon_wins_over_the_checkpoints(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    with caplog.at_level(logging.INFO):
        _, scheduler = _interrupted(at=100, total_steps=100, resumed_total_steps=200)
    assert "schedule: horizon 100 -> 200 steps; the learning rate goes on along the new curve" in caplog.text
    whole = _train(WarmupCosine(_optimizer(1.0, 0.1), warmup=0.1, total_steps=200), 200)
    assert _train(scheduler, 100) == whole[100:]


@pytest.mark.parametrize("older", [False, True])
def test__learning_rates_given_now_win_over_the_checkpoints(older):
    first = WarmupCosine(_optimizer(1.0, 0.1), warmup=0.1, total_steps=100)
    _train(first, 37)
    second = WarmupCosine(_optimizer(4.0, 0.2), warmup=0.1, total_steps=100)  # as of groups by stage: each its own
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict() | ({"base_lrs": [1.0, 0.1]} if older else {}))
    whole = _train(WarmupCosine(_optimizer(4.0, 0.2), warmup=0.1, total_steps=100), 100)
    assert second.get_last_lr() == whole[37]
    assert _train(second, 63) == whole[37:]
    assert [group["initial_lr"] for group in second.optimizer.param_groups] == [4.0, 0.2]


def test__checkpoints_horizon_serves_where_none_is_told():
    first = WarmupCosine(_optimizer(), total_steps=100)
    _train(first, 10)
    second = WarmupCosine(_optimizer())
    second.load_state_dict(first.state_dict())
    assert second.total_steps == 100
    assert second.get_last_lr() == first.get_last_lr()


def test__the_curves_shape_comes_from_the_arguments_and_not_the_checkpoint():
    first = WarmupCosine(_optimizer(), total_steps=100, final_lr_ratio=0.0)
    _train(first, 100)
    second = WarmupCosine(_optimizer(), total_steps=100, final_lr_ratio=0.5)
    second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == [0.5]


def test__state_is_plain(tmp_path):
    scheduler = WarmupCosine(_optimizer(), total_steps=10)
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == scheduler.state_dict()


def test__run_shorter_than_its_warm_up_only_climbs():
    # As in a debug run of one step of a config with a long warm-up.
    scheduler = WarmupCosine(_optimizer(), warmup=9, total_steps=2)
    assert _train(scheduler, 3) == [[0.1], [0.2], [0.3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 1.0}, r"warmup: need a share in \[0, 1\) or a whole number of steps, such as 500, got 1\.0"),
        ({"warmup": -1}, "warmup.*got -1"),
        ({"final_lr_ratio": 1.5}, r"final_lr_ratio.*\[0, 1\], got 1\.5"),
        ({"initial_lr_ratio": -0.1}, r"initial_lr_ratio.*got -0\.1"),
        ({"total_steps": 0}, "total_steps: need at least 1, got 0"),
    ],
)
def test__wrong_arguments_raise(options, message):
    with pytest.raises(UserError, match=message):
        WarmupCosine(_optimizer(), **options)


@pytest.mark.parametrize(("text", "warmup"), [("500", 500), ("0.1", 0.1)])
def test__yaml_tells_steps_from_shares(text, warmup):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--scheduler", type=LRSchedulerCallable)
    arguments = ["--scheduler=toolkit.optim.warmup_cosine.WarmupCosine", f"--scheduler.warmup={text}"]
    parsed = parser.parse_args(arguments).scheduler.init_args.warmup
    assert parsed == warmup
    assert type(parsed) is type(warmup)
