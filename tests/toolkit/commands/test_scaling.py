from pathlib import Path

import pytest
from torch import nn

from cli import main
from toolkit.commands.scaling import GlobalBatch, ScalingOptions, batch_norm_warning, scaling_line
from toolkit.errors import UserError

DIGITS = ["fit", "--config", "configs/vision/classification_digits.yaml", "--trainer.accelerator=cpu"]


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4.0), ("sqrt", 2.0)])
def test_factor_of_a_rule(rule: str, factor: float) -> None:
    assert ScalingOptions(rule, 256).factor(1024) == factor  # type: ignore[arg-type]
    assert ScalingOptions(rule, 256).factor(256) == 1  # type: ignore[arg-type]


def test_without_a_rule_the_learning_rate_stays() -> None:
    assert ScalingOptions().factor(4096) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ScalingOptions("linear"), "got rule 'linear' and base_batch_size None; write both"),
        (ScalingOptions("none", 256), "got rule 'none' and base_batch_size 256; write both"),
        (ScalingOptions("sqrt", 0), "scaling.base_batch_size: need a positive number, got 0"),
    ],
)
def test_half_a_rule_is_refused(options: ScalingOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options.factor(64)


def test_the_line_names_all_that_makes_a_batch() -> None:
    line = scaling_line(ScalingOptions(), GlobalBatch(64, 2, 3))
    assert line == "global batch 192 = 2 ranks x 32 per rank x 3 accumulated; learning rate as configured"


def test_the_optimizer_gets_the_scaled_rate(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0.01 at 64; two accumulated batches of 128 are four times as many samples, and the schedule starts from there."""
    words = [
        "--trainer.accumulate_grad_batches=2",
        "--data.batch_size=128",
        "--trainer.max_epochs=1",
        "--wandb.enabled=false",
    ]
    words += [
        "--scaling.rule=linear",
        "--scaling.base_batch_size=64",
        "--model.scheduler=null",
        "--test_after_fit=false",
    ]
    made = main([*DIGITS, *words])
    assert made.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.04)
    line = "global batch 256 = 1 rank x 128 per rank x 2 accumulated; learning rate x 4 (linear, base 64)"
    assert line in capsys.readouterr().out
    assert line in (made.run_folder / "summary.json").read_text()
    assert "base_batch_size: 64" in (made.run_folder / "config.yaml").read_text()


def test_a_wrong_rule_is_a_message(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*DIGITS, "--scaling.rule=linear"])
    assert stopped.value.code == 2
    assert "write both, such as --scaling.rule linear --scaling.base_batch_size 256" in capsys.readouterr().err


def test_batch_norm_of_few_samples_is_told() -> None:
    warning = batch_norm_warning(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), per_rank=8)
    assert warning is not None
    assert "the 8 samples of one rank" in warning
    assert batch_norm_warning(nn.Sequential(nn.SyncBatchNorm(2)), per_rank=8) is None
    assert batch_norm_warning(nn.LayerNorm(2), per_rank=8) is None
