"""One row a task: what the conformance suite needs to put any task through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from datamodules.base import BaseDataModule
from datamodules.digits import DigitsDataModule
from examples.parity import Parity
from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.vae import VAE
from toolkit.nn.unet import UNet
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN


@dataclass(frozen=True)
class Case:
    """A task, built in Python and through the command line."""

    net: Callable[[], nn.Module]
    build: Callable[[nn.Module], Task]
    data: Callable[[], BaseDataModule]
    arguments: tuple[str, ...]
    """The same task and data in the command line's words."""
    uneven: tuple[str, ...] = ()
    """What makes the ranks' shares of a batch's loss differ."""
    without_noise: tuple[str, ...] | None = None
    """The arguments with a network without BatchNorm and dropout, whose noise or statistics are a rank's own; by
    default those above with an MLP."""
    accumulates: bool = True
    """Whether it takes the Trainer's accumulation, which tasks with several optimizers do not."""


def digits() -> BaseDataModule:
    return DigitsDataModule(batch_size=64)


NARROW = {"generator_width": 4, "discriminator_width": 4}
# 16: with as many channels as groups, normalisation leaves a bias without a gradient, and Adam steps along rounding
DIFFUSION = (
    *("--model=DenoisingDiffusion", "--model.sampling_steps=3", "--model.net=UNet", "--model.net.width=16"),
    *("--model.net.conditional=true", "--data=DigitsDataModule"),
)

CASES: dict[type[Task], Case] = {
    ImageClassification: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: ImageClassification(net, num_classes=10, label_smoothing=0.1),
        data=digits,
        arguments=("--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule"),
        uneven=("--model.class_weights=[1,2,3,4,5,6,7,8,9,20]",),
    ),
    GAN: Case(
        net=lambda: DCGAN(in_channels=1, image_size=(8, 8), num_classes=10, conditional=True, **NARROW),
        build=lambda net: GAN(net, num_classes=10, image_size=(8, 8)),
        data=digits,
        arguments=(
            *("--model=GAN", "--model.net=DCGAN", "--model.net.conditional=true", "--data=DigitsDataModule"),
            *(f"--model.net.{name}={width}" for name, width in NARROW.items()),
        ),
        without_noise=(
            *("--model=GAN", "--model.net=DCGAN", "--data=DigitsDataModule", "--model.critic_steps=2"),
            *("--model.net.batch_norm=false", "--model.net.spectral_norm=false", "--model.penalty=GradientPenalty"),
            *(f"--model.net.{name}={width}" for name, width in NARROW.items()),
        ),
        accumulates=False,
    ),
    VAE: Case(
        net=lambda: ConvVAE(in_channels=1, image_size=(8, 8), widths=(4,), hidden=16),
        build=lambda net: VAE(net),
        data=digits,
        arguments=("--model=VAE", "--model.net=ConvVAE", "--model.net.hidden=16", "--data=DigitsDataModule"),
        without_noise=("--model=VAE", "--model.net=ConvVAE", "--model.net.hidden=16", "--data=DigitsDataModule"),
    ),
    DenoisingDiffusion: Case(
        net=lambda: UNet(in_channels=1, num_classes=10, conditional=True, width=16),
        build=lambda net: DenoisingDiffusion(net, num_classes=10, image_size=(8, 8), sampling_steps=3),
        data=digits,
        arguments=DIFFUSION,
        without_noise=DIFFUSION,
    ),
    Parity: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=1),
        build=lambda net: Parity(net),
        data=digits,
        arguments=(
            "--model=examples.parity.Parity",
            "--model.net=SmallCNN",
            "--model.net.num_classes=1",
            "--data=DigitsDataModule",
        ),
    ),
}
