"""Several optimizers: what is counted, clipped, accumulated, scheduled, resumed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.divergence_guard import DivergenceGuard
from callbacks.last_checkpoint import LastCheckpoint
from cli import main
from datamodules.digits import DigitsDataModule
from toolkit.errors import UserError
from toolkit.generative.gan import GAN
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.losses.gradient_penalty import GradientPenalty
from toolkit.losses.wasserstein import WassersteinLoss


def pair(**options: Any) -> DCGAN:
    torch.manual_seed(1)
    return DCGAN(in_channels=1, image_size=(8, 8), num_classes=10, generator_width=4, discriminator_width=4,
                 batch_norm=False, **options)  # fmt: skip


def gan(net: DCGAN | None = None, **options: Any) -> GAN:
    return GAN(net or pair(), num_classes=10, image_size=(8, 8), **options)


def fit(task: GAN, *callbacks: Callback, batch_size: int = 32, **options: Any) -> Trainer:
    trainer = Trainer(
        **{"max_steps": 10, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
           "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0, "max_epochs": 3} | options,
        callbacks=list(callbacks), use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=batch_size))
    return trainer


class Count(Callback):
    """Training steps, and optimizer steps of each kind with the norm of the gradient before them."""

    def __init__(self) -> None:
        self.batches = 0
        self.norms: dict[int, list[float]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.batches += 1
        assert trainer.global_step == self.batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for place, optimizer in enumerate(trainer.optimizers):
            norms = self.norms.setdefault(place, [])
            optimizer.register_step_post_hook(lambda o, *args, norms=norms: norms.append(norm(o)))


def norm(optimizer: torch.optim.Optimizer) -> float:
    """Of the gradients that it has just used."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def test_max_steps_are_training_steps_however_many_critic_steps() -> None:
    """Ten batches, thirty critic and ten generator updates, ten steps; Lightning would have stopped in the third."""
    count = Count()
    task = gan(pair(spectral_norm=False), loss=WassersteinLoss(), penalty=GradientPenalty(), critic_steps=3)
    trainer = fit(task, count)
    assert trainer.global_step == count.batches == 10
    states = [next(iter(o.state.values()))["step"].item() for o in trainer.optimizers]
    assert states == [30, 10]


def test_accumulation_is_the_same_step() -> None:
    # without spectral normalisation, whose power iteration goes on with each forward pass
    whole, parts = gan(pair(spectral_norm=False)), gan(pair(spectral_norm=False), accumulate=4)
    for task in (whole, parts):
        fit(task, max_steps=3, precision="64-true")
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=name)


def test_clipping_bounds_each_optimizer() -> None:
    count = Count()
    fit(gan(gradient_clip_val=1e-3), count)
    assert [len(norms) for norms in count.norms.values()] == [10, 10]
    assert max(max(norms) for norms in count.norms.values()) <= 1e-3 * (1 + 1e-5)


def test_schedule_moves_once_a_training_step() -> None:
    from toolkit.optim.warmup_linear import WarmupLinear

    task = gan(pair(), critic_steps=2, scheduler=lambda optimizer: WarmupLinear(optimizer, warmup=0.0))
    trainer = fit(task)
    assert [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs] == [10, 10]
    assert [group["lr"] for o in trainer.optimizers for group in o.param_groups] == pytest.approx([0.0, 0.0])


def test_the_trainer_s_own_flags_are_refused() -> None:
    with pytest.raises(UserError, match=r"trainer.accumulate_grad_batches: .* got 2"):
        fit(gan(), accumulate_grad_batches=2)
    with pytest.raises(UserError, match=r"trainer.gradient_clip_val: .* write model.init_args.gradient_clip_val: 0.5"):
        fit(gan(), gradient_clip_val=0.5)


@pytest.mark.parametrize("options", [{"accumulate": 0}, {"gradient_clip_val": 0.0}, {"critic_steps": 0}])
def test_mistakes(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="need"):
        gan(**options)


def test_a_batch_too_small_is_explained() -> None:
    with pytest.raises(UserError, match=r"batch of 1 images cannot be dealt to critic_steps 2 times accumulate 1"):
        fit(gan(critic_steps=2), batch_size=1)


def test_a_batch_of_one_trains() -> None:
    assert fit(gan(), batch_size=1).global_step == 10


class Broken(WassersteinLoss):
    """Not a number from the first step."""

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return super().discriminator(real, fake) * math.nan


def test_mixed_precision_moves_both_networks_nearly_alike() -> None:
    before = {name: value.detach().clone() for name, value in pair().named_parameters()}
    moves = []
    for precision in ("32-true", "bf16-mixed"):
        task = gan()
        fit(task, max_steps=2, precision=precision)
        assert all(value.dtype == torch.float32 for value in task.net.parameters())
        moves.append(
            torch.cat([(value.detach() - before[name]).flatten() for name, value in task.net.named_parameters()])
        )
    whole, mixed = moves
    assert not torch.equal(whole, mixed)
    assert float(torch.cosine_similarity(whole, mixed, dim=0)) > 0.9


def test_a_nan_moves_nothing_and_in_the_end_is_explained(tmp_path: Path) -> None:
    """The generator's gradients stay good; still the steps are bad ones in a row."""
    task = gan(loss=Broken())
    guard = DivergenceGuard(LastCheckpoint(tmp_path), max_skips=3)
    before = {name: value.clone() for name, value in task.net.discriminator.named_parameters()}
    with (
        pytest.warns(UserWarning, match=r"step \d: skipped, the norm of the gradient is nan .* samples \[\d+"),
        pytest.raises(UserError, match="training diverged: 3 steps in a row"),
    ):
        fit(task, guard)
    for name, value in task.net.discriminator.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert [norm["steps"] for norm in guard._norms] == [0, 3]


@pytest.mark.slow  # of every task there is a quicker one in test_resume
@pytest.mark.parametrize("config", ["generative/gan_digits", "generative/vae_digits", "selfsupervised/simclr_digits"])
def test_killed_and_resumed_is_the_same(config: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", f"configs/{config}.yaml", "--trainer.accelerator=cpu", "--steps=24"]
    words += ["--trainer.precision=bf16-mixed"] if "gan" in config else []
    assert main(["verify-resume", *words, "--kill_after=9"])
    assert "equal       every sample, loss and weight" in capsys.readouterr().out
