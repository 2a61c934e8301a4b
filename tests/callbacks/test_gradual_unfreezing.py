"""Stages thaw by epoch, what waits stays bit-equal, and a resumed run goes on where it was."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from callbacks.frozen_audit import FrozenAudit
from callbacks.gradual_unfreezing import GradualUnfreezing
from callbacks.step_seed import StepSeed
from cli import main
from datamodules.digits import DigitsDataModule
from tests import forked
from toolkit.errors import UserError
from toolkit.vision.image_classification import ImageClassification


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Linear(8, 10)
    )


def fit(
    net: nn.Module, epochs: int, schedule: dict[int, int] | None, ckpt_path: Path | None = None, steps: int = -1
) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs, limit_train_batches=3, limit_val_batches=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[StepSeed(0), FrozenAudit(), GradualUnfreezing(schedule)],
    )  # fmt: skip
    task = ImageClassification(net, num_classes=10)
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=32), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [net[1].weight.clone(), net[2].running_mean.clone(), net[4].weight.clone(), net[5].weight.clone()]


@pytest.mark.parametrize(
    ("schedule", "moves"),
    [(None, ["0001", "0011", "0111"]), ({0: 1, 1: 3, 2: -1}, ["0001", "0111", "1111"]), ({0: 2, 2: -1}, ["0011", "0011", "1111"])],
)  # fmt: skip
def test_stages_thaw_by_epoch(schedule: dict[int, int] | None, moves: list[str]) -> None:
    for epochs, expected in enumerate(moves, start=1):
        net = network()
        if epochs > 1:
            fit(net, epochs - 1, schedule)
        before, net = weights(net), network()
        fit(net, epochs, schedule)
        assert "".join(str(int(not torch.equal(a, b))) for a, b in zip(before, weights(net), strict=True)) == expected
        assert all(parameter.requires_grad for parameter in net.parameters())


def test_what_the_network_froze_stays_frozen() -> None:
    """The statistics of its BatchNorm, too."""
    net = network()
    net[1].requires_grad_(False)
    net[2].requires_grad_(False)
    before = weights(net)
    fit(net, 2, {0: 1, 1: -1})
    assert [torch.equal(a, b) for a, b in zip(before, weights(net), strict=True)] == [True, True, False, False]
    assert not net[1].weight.requires_grad


@pytest.mark.slow
def test_two_ranks(workdir: Path) -> None:
    """What waits in the first epoch stays on both, and the audit agrees."""
    words = ["fit", "--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule", "--trainer.devices=2",
             "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.limit_train_batches=3", "--runs=runs",
             "--trainer.callbacks+=GradualUnfreezing", "--trainer.callbacks+=FrozenAudit", "--trainer.accelerator=cpu",
             "--wandb.enabled=false"]  # fmt: skip
    done = forked.run([*words, "--trainer.max_epochs=2"], cwd=workdir, ranks=2)
    assert done.returncode == 0, done.stderr
    (run,) = Path("runs").glob("*/*/")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    assert "epoch 1: 2 of 11 stages train" in done.stderr


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("schedule", [None, {0: 1, 2: -1}])
def test_a_run_resumed_behind_any_epoch_goes_on_where_it_was(
    epochs: int, schedule: dict[int, int] | None, tmp_path: Path
) -> None:
    whole, killed, resumed = network(), network(), network()
    fit(whole, 4, schedule)
    fit(killed, epochs, schedule).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    fit(resumed, 4, schedule, tmp_path / "a.ckpt")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_epoch_goes_on_where_it_was(workdir: Path) -> None:
    """In the epoch of 19 steps in which two stages train."""
    words = ["fit", "--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule", "--trainer.max_epochs=null",
             "--trainer.callbacks=GradualUnfreezing", "--trainer.accelerator=cpu", "--wandb.enabled=false"]  # fmt: skip
    whole = main([*words, "--trainer.max_steps=30"]).model
    cut = main([*words, "--trainer.max_steps=25"]).run_folder
    resumed = main(["resume", str(cut), "--trainer.max_steps=30"]).model
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `verify-resume` compares: in the epoch of 19 steps in which two stages train."""
    (workdir / "config.yaml").write_text("{}\n")
    words = ["--config=config.yaml", "--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule",
             "--trainer.callbacks=GradualUnfreezing", "--trainer.accelerator=cpu", "--wandb.enabled=false"]  # fmt: skip
    assert main(["verify-resume", *words, "--steps=30", "--kill_after=25"]), capsys.readouterr().out


def test_mistakes() -> None:
    for schedule in ({1: 1}, {0: 0}, {0: 1, -1: 2}):
        with pytest.raises(UserError, match="from epoch 0 on"):
            GradualUnfreezing(schedule)


def test_ranks_must_expect_what_is_frozen() -> None:
    task = ImageClassification(network(), num_classes=10)
    for strategy in ("ddp", "ddp_find_unused_parameters_true"):
        trainer = Trainer(strategy=strategy, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
        if strategy == "ddp":
            with pytest.raises(UserError, match=r"write trainer\.strategy: ddp_find_unused_parameters_true"):
                GradualUnfreezing().setup(trainer, task, "fit")
        else:
            GradualUnfreezing().setup(trainer, task, "fit")
