"""Each generative task under the overlay ``configs/trainer/bf16_true.yaml``."""

from collections.abc import Callable

import pytest
from lightning.pytorch import Trainer

from datamodules.digits import DigitsDataModule
from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.vae import VAE
from toolkit.losses.gradient_penalty import GradientPenalty
from toolkit.losses.likelihood import GaussianLikelihood
from toolkit.losses.r1 import R1
from toolkit.nn.unet import UNet
from toolkit.task import Task


def dcgan() -> DCGAN:
    return DCGAN(in_channels=1, image_size=(8, 8), num_classes=10, generator_width=4, discriminator_width=4)


def conv_vae() -> ConvVAE:
    return ConvVAE(in_channels=1, image_size=(8, 8), widths=(4,), hidden=16)


@pytest.mark.parametrize(
    "build",
    [
        lambda: DenoisingDiffusion(UNet(in_channels=1, width=8), image_size=(8, 8), sampling_steps=5),
        lambda: VAE(conv_vae()),
        lambda: VAE(conv_vae(), GaussianLikelihood()),
        lambda: GAN(dcgan(), image_size=(8, 8)),
        lambda: GAN(dcgan(), image_size=(8, 8), penalty=GradientPenalty()),
        lambda: GAN(dcgan(), image_size=(8, 8), penalty=R1()),
    ],
    ids=["diffusion", "vae", "gaussian", "gan", "gradient_penalty", "r1"],
)
def test_training_and_sampling_are_finite(build: Callable[[], Task]) -> None:
    task = build()
    trainer = Trainer(max_steps=3, accelerator="cpu", precision="bf16-true", logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, limit_val_batches=2,
                      val_check_interval=3)  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=32))
    assert "val/loss" in trainer.callback_metrics
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    assert isinstance(task, (DenoisingDiffusion, VAE, GAN))
    assert task.sample(4).isfinite().all()
