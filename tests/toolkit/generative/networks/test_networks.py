"""Shapes, gradient flow and mistakes of the networks of generative models."""

from typing import Any

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.generative.networks.adversarial_pair import AdversarialPair
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.networks.resnet_gan import ResNetGAN
from toolkit.nn.spectral_norm import spectral_norm
from toolkit.nn.unet import UNet


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize(
    ("pair", "options"),
    [(DCGAN, {"generator_width": 4, "discriminator_width": 4}), (ResNetGAN, {"width": 4})],
)
def test_pair_shapes_and_gradients(pair: type[AdversarialPair], options: dict[str, Any], size: int) -> None:
    net = pair(in_channels=3, image_size=(size, size), num_classes=5, conditional=True, latent_dim=6, **options)
    label = torch.tensor([0, 4])
    image = net.generate(torch.randn(2, 6), label)
    assert image.shape == (2, 3, size, size)
    assert image.abs().max() <= 1
    logit = net.discriminate(image, label)
    assert logit.shape == (2,)
    logit.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_class_matters_to_both_players() -> None:
    net = DCGAN(in_channels=1, image_size=(8, 8), num_classes=3, conditional=True).eval()
    code, image = torch.randn(1, 64), torch.randn(1, 1, 8, 8)
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert not torch.equal(net.generate(code, zero), net.generate(code, one))
    assert not torch.equal(net.discriminate(image, zero), net.discriminate(image, one))
    with pytest.raises(UserError, match="give a class for each image"):
        net.generate(code)
    with pytest.raises(UserError, match=r"need codes \(B, 64\), got \(1, 5\)"):
        net.generate(torch.zeros(1, 5), zero)


def test_an_image_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UserError, match=r"such as 28, 32 or 64, got \[7, 7\]"):
        DCGAN(in_channels=1, image_size=(7, 7))
    with pytest.raises(UserError, match="divisible by 4, got"):
        ConvVAE(in_channels=1, image_size=(6, 6))


def test_spectral_norm_is_the_largest_singular_value() -> None:
    layer = nn.Linear(7, 5)
    spectral_norm(layer)
    layer.eval()
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-2)
    for buffer in layer.parametrizations.weight[0].buffers():  # as an average of weights leaves them
        buffer.mul_(1e-4)
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-2)


def test_vae_decodes_what_it_encodes_in_shape() -> None:
    net = ConvVAE(in_channels=3, image_size=(16, 24), latent_dim=5)
    posterior = net.encode(torch.rand(2, 3, 16, 24))
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 5)
    net.decode(posterior.mean).sum().backward()
    assert all(p.grad is not None for p in net.encoder.parameters())


def test_unet_knows_time_and_class_and_refuses_sizes() -> None:
    net = UNet(in_channels=1, num_classes=3, conditional=True, width=8, multipliers=[1, 2, 2], blocks=2)
    for block in net.down:
        nn.init.normal_(block.conv2.weight, std=0.1)  # which begin as zero, so that nothing modulates
    x, early, late = torch.randn(1, 1, 8, 8), torch.tensor([0.1]), torch.tensor([0.9])
    assert net(x, early, torch.tensor([0])).shape == x.shape
    assert not torch.allclose(net(x, early), net(x, late))
    assert not torch.allclose(net(x, early, torch.tensor([0])), net(x, early, torch.tensor([1])))
    torch.testing.assert_close(net(x, early), net(x, early, torch.tensor([3])))  # no class is class K
    net(x, early).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(UserError, match=r"sides divisible by 4"):
        net(torch.zeros(1, 1, 6, 6), early)
    with pytest.raises(UserError, match="need a width that 8 divides"):
        UNet(in_channels=1, width=12)
