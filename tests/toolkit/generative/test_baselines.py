"""The naive figures beside generative results, against numbers worked out by hand."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.vae import VAE
from toolkit.keys import sample_keys
from toolkit.nn.unet import UNet
from toolkit.types import ImageBatch


def data() -> Any:
    """Four images in two batches: one pixel is white in one of four, another in two of four, the others black."""
    image = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 0, 0] = image[1, 0, 5, 5] = image[2, 0, 5, 5] = 255
    index = torch.arange(4)
    batches = [ImageBatch(image[i], torch.zeros(2, dtype=torch.int64), i, sample_keys(0, 0, i)) for i in index.split(2)]
    return SimpleNamespace(val_dataloader=lambda: batches, test_dataloader=lambda: batches)


def test_coins_of_the_pixels_own_frequencies() -> None:
    baseline = VAE(ConvVAE(in_channels=1, image_size=(8, 8), widths=(4,), hidden=16)).baseline(data(), "val")
    nats = 0.25 * math.log(0.25) + 0.75 * math.log(0.75) + math.log(0.5)
    assert baseline is not None
    assert baseline.metrics == pytest.approx({"elbo": nats, "loss": -nats, "bits_per_dim": -nats / math.log(2) / 64})


def test_one_image_for_all() -> None:
    net = DCGAN(in_channels=1, image_size=(8, 8), generator_width=4, discriminator_width=4, latent_dim=2)
    baseline = GAN(net, image_size=(8, 8)).baseline(data(), "test")
    variance = 4 * (0.25 * 0.75 + 0.5 * 0.5) * 4 / 3  # on the scale -1 to 1, unbiased
    assert baseline.metrics == pytest.approx({"frechet_pixels": variance})


def test_no_noise_predicted() -> None:
    task = DenoisingDiffusion(UNet(in_channels=1, width=8), image_size=(8, 8))
    assert task.baseline(data(), "val").metrics == {"loss": 1.0}
