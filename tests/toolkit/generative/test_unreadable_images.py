"""An image that could not be read counts nowhere: everything is as without it."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.vae import VAE
from toolkit.keys import sample_keys
from toolkit.losses.gaussian_kl import GaussianKL
from toolkit.nn.unet import UNet
from toolkit.task import Task
from toolkit.types import IGNORE_LABEL, ImageBatch, Stage


def images() -> ImageBatch:
    """Eight; the third and the last are black and could not be read."""
    index = torch.arange(8)
    label = torch.zeros(8, dtype=torch.int64)
    image = torch.randint(256, (8, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    label[[2, 7]], image[[2, 7]] = IGNORE_LABEL, 0
    return ImageBatch(image, label, index, sample_keys(0, 0, index))


def readable(batch: ImageBatch) -> ImageBatch:
    return ImageBatch(*(field[batch.label != IGNORE_LABEL] for field in batch))


def vae() -> VAE:
    return VAE(ConvVAE(in_channels=1, image_size=(8, 8), widths=(4,), hidden=16), kl=GaussianKL(free_nats=0.001))


def gan() -> GAN:
    net = DCGAN(in_channels=1, image_size=(8, 8), generator_width=4, discriminator_width=4, batch_norm=False)
    return GAN(net, image_size=(8, 8))


def diffusion() -> DenoisingDiffusion:
    return DenoisingDiffusion(UNet(in_channels=1, width=8), image_size=(8, 8))


CASES = [(vae, "train"), (vae, "val"), (gan, "val"), (diffusion, "train"), (diffusion, "val")]


@pytest.mark.parametrize(("build", "stage"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_as_without_them(build: Callable[[], Task], stage: Stage) -> None:
    whole, part = build().eval(), build().eval()
    part.load_state_dict(whole.state_dict())
    batch = images()
    found, expected = whole.step(batch, stage), part.step(readable(batch), stage)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(whole.means(stage).compute(), part.means(stage).compute())
    torch.testing.assert_close(whole.means(stage).sums()[1], torch.full_like(whole.means(stage).sums()[1], 6))
    if stage != "train":
        torch.testing.assert_close(whole.metrics(stage).compute(), part.metrics(stage).compute())
        torch.testing.assert_close(found.prediction.readable, batch.label != IGNORE_LABEL)
        torch.testing.assert_close(whole.predict_step(batch, 0).readable, batch.label != IGNORE_LABEL)
        assert len(found.prediction.score) == 8


@pytest.mark.parametrize(("build", "stage"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_batch_of_nothing_else(build: Callable[[], Task], stage: Stage) -> None:
    task, batch = build().eval(), images()
    task.step(batch._replace(label=torch.full_like(batch.label, IGNORE_LABEL)), stage)
    task.step(batch, stage)
    assert all(value.isfinite() for value in task.means(stage).compute().values())


@pytest.mark.parametrize("build", [vae, gan])
def test_baselines(build: Callable[[], Task]) -> None:
    task, batch = build(), images()
    data = [SimpleNamespace(val_dataloader=lambda given=given: [given]) for given in (batch, readable(batch))]
    found, expected = (task.baseline(module, "val") for module in data)
    assert found is not None
    assert expected is not None
    assert found.metrics == pytest.approx(expected.metrics)
