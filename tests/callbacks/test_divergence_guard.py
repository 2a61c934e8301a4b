from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.divergence_guard import DivergenceGuard
from callbacks.ema import EMA
from callbacks.last_checkpoint import LastCheckpoint
from datamodules.digits import DigitsDataModule
from toolkit.errors import UserError
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN


class Poison(Callback):
    """Spoils the gradient of some training steps, and BatchNorm's statistics with it, as a NaN in the input would."""

    def __init__(self, steps: range, value: float = float("nan")) -> None:
        self.steps, self.value = steps, value
        self.weights: list[Tensor] = []

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fit_loop.total_batch_idx in self.steps:
            for parameter in pl_module.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(self.value)
            for buffer in pl_module.net.buffers():
                if buffer.is_floating_point():
                    buffer.mul_(float("nan"))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.weights.append(torch.cat([p.detach().flatten().clone() for p in pl_module.parameters()]))


def fit(
    folder: Path, poison: Poison, epochs: int = 1, more: Sequence[Callback] = (), **options: Any
) -> ImageClassification:
    torch.manual_seed(0)
    task = ImageClassification(SmallCNN(num_classes=10, in_channels=1), num_classes=10)
    last = LastCheckpoint(folder)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
        callbacks=[last, poison, DivergenceGuard(last, **options), EMA(0.9), *more],
    )  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=64))
    return task


def test_a_skipped_step_is_in_no_mean(tmp_path: Path) -> None:
    class Counts(Callback):
        weights: list[float]

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
            assert isinstance(pl_module, ImageClassification)
            self.weights.append(float(pl_module.means("train").sums()[1, 0]))

    counts = Counts()
    counts.weights = []
    with pytest.warns(UserWarning, match="step 3: skipped"):
        fit(tmp_path, Poison(range(3, 4)), more=(counts,))
    assert counts.weights[:6] == [64, 128, 192, 192, 256, 320]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_bad_gradient_moves_nothing_and_its_samples_are_named(value: float, tmp_path: Path) -> None:
    poison = Poison(range(60, 61), value)
    with pytest.warns(UserWarning, match=r"step 60: skipped, the norm of the gradient is .*; samples \[\d+, \d+"):
        task = fit(tmp_path, poison, epochs=4)
    assert torch.equal(poison.weights[59], poison.weights[60])
    assert not torch.equal(poison.weights[60], poison.weights[61])
    for tensor in task.state_dict().values():
        assert tensor.isfinite().all()


def test_after_several_in_a_row_the_last_checkpoint_is_loaded(tmp_path: Path) -> None:
    """Epochs have 19 steps; the checkpoint of step 19 is loaded before step 25."""
    poison = Poison(range(22, 25))
    with pytest.warns(UserWarning, match="skipped|rolled back") as told:
        fit(tmp_path, poison, epochs=2, max_skips=3)
    messages = [str(warning.message) for warning in told]
    assert sum("skipped" in message for message in messages) == 3
    assert sum("step 25: rolled back to" in message for message in messages) == 1
    at_19 = poison.weights[18]
    moved = (poison.weights[25] - at_19).norm()  # one step of AdamW away from the checkpoint
    assert 0 < moved < (poison.weights[21] - at_19).norm()


@pytest.mark.filterwarnings("ignore:.*skipped.*", "ignore:.*rolled back.*")
def test_a_run_that_goes_on_diverging_ends_with_a_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training diverged: 2 steps in a row .* after 1 rollbacks"):
        fit(tmp_path, Poison(range(25, 99)), epochs=3, max_skips=2, max_rollbacks=1)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


@pytest.mark.parametrize("options", [{"spike_factor": 1.0}, {"max_skips": 0}, {"max_rollbacks": -1}])
def test_bad_arguments(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DivergenceGuard: need"):
        DivergenceGuard(LastCheckpoint(tmp_path), **options)
