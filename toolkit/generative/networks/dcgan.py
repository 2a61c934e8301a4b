"""The convolutional pair. Shape legend: B batch, Z code dimensions, C channels, H height, W width, K classes."""

from torch import nn

from toolkit.generative.networks.adversarial_pair import AdversarialPair, halvings


class DCGAN(AdversarialPair):
    """Strided convolutions in both networks: 28, 32 or 64 pixels, or another size that can be halved.

    Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks", ICLR 2016. Departures: the discriminator has no batch normalisation, which a gradient penalty forbids,
    but spectral normalisation; the coarsest size is that to which the image can be halved (7 for 28).

    Args:
        in_channels: C.
        image_size: ``(H, W)``.
        num_classes: K.
        conditional: Whether images are made of a class.
        latent_dim: Z.
        generator_width: Channels before the last layer, doubled with each halving.
        discriminator_width: Channels after the first layer, likewise.
        batch_norm: In the generator.
        spectral_norm: In the discriminator.

    >>> import torch
    >>> DCGAN(in_channels=1, image_size=(28, 28))(torch.zeros(2, 64)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int | None = None,
        conditional: bool = False,
        latent_dim: int = 64,
        generator_width: int = 64,
        discriminator_width: int = 32,
        batch_norm: bool = True,
        spectral_norm: bool = True,
    ) -> None:
        n = halvings(image_size)
        height, width = image_size[0] // 2**n, image_size[1] // 2**n
        codes = latent_dim + (num_classes or 0) * conditional
        widest = discriminator_width * 2 ** (n - 1)
        super().__init__(
            _generator(codes, in_channels, (height, width), generator_width, n, batch_norm),
            _discriminator(in_channels, discriminator_width, n),
            features=widest * height * width,
            latent_dim=latent_dim,
            num_classes=num_classes if conditional else None,
            spectral_norm=spectral_norm,
        )


def _generator(
    codes: int, in_channels: int, coarse: tuple[int, int], width: int, n: int, batch_norm: bool
) -> nn.Sequential:
    channels = [width * 2**i for i in reversed(range(n))]  # at 2, 4, ... times the coarse size, but for the last

    def activated(count: int) -> list[nn.Module]:
        return [*([nn.BatchNorm2d(count)] if batch_norm else []), nn.ReLU()]

    first = 2 * channels[0]
    layers: list[nn.Module] = [nn.Linear(codes, first * coarse[0] * coarse[1]), nn.Unflatten(1, (first, *coarse))]
    layers += activated(first)
    before = first
    for after in channels[:-1]:
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), *activated(after)]
        before = after
    return nn.Sequential(*layers, nn.ConvTranspose2d(before, in_channels, 4, 2, 1), nn.Tanh())


def _discriminator(in_channels: int, width: int, n: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = in_channels
    for i in range(n):
        after = width * 2**i
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = after
    return nn.Sequential(*layers, nn.Flatten())
