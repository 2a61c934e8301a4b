"""The residual pair. Shape legend: B batch, Z code dimensions, C channels, H height, W width, K classes."""

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.generative.networks.adversarial_pair import AdversarialPair, halvings


class _Up(nn.Module):
    """Twice the size: nearest neighbour, two convolutions, added to a 1 x 1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        y = self.conv2(F.relu(self.norm2(y)))
        output: Tensor = y + self.shortcut(F.interpolate(x, scale_factor=2))
        return output


class _Down(nn.Module):
    """Half the size: two convolutions, a mean over 2 x 2 pixels, added to a 1 x 1 convolution."""

    def __init__(self, before: int, width: int, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first  # no ReLU on the image itself
        self.conv1, self.conv2 = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x if self.is_first else F.relu(x))
        y = F.avg_pool2d(self.conv2(F.relu(y)), 2)
        output: Tensor = y + self.shortcut(F.avg_pool2d(x, 2))
        return output


class ResNetGAN(AdversarialPair):
    """Residual blocks of one width in both networks.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, tables 3 and 4, smaller.

    Args:
        in_channels: C.
        image_size: ``(H, W)``.
        num_classes: K.
        conditional: Whether images are made of a class.
        latent_dim: Z.
        width: Channels of all blocks; the paper has 128 and 256.
        spectral_norm: In the discriminator.

    >>> import torch
    >>> ResNetGAN(in_channels=3, image_size=(32, 32), width=8)(torch.zeros(2, 64)).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int | None = None,
        conditional: bool = False,
        latent_dim: int = 64,
        width: int = 64,
        spectral_norm: bool = True,
    ) -> None:
        n = halvings(image_size)
        coarse = (width, image_size[0] // 2**n, image_size[1] // 2**n)
        codes = latent_dim + (num_classes or 0) * conditional
        head = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, in_channels, 3, padding=1), nn.Tanh()]
        project = [nn.Linear(codes, coarse[0] * coarse[1] * coarse[2]), nn.Unflatten(1, coarse)]
        down = [_Down(in_channels if i == 0 else width, width, is_first=i == 0) for i in range(n)]
        super().__init__(
            nn.Sequential(*project, *(_Up(width) for _ in range(n)), *head),
            nn.Sequential(*down, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            features=width,
            latent_dim=latent_dim,
            num_classes=num_classes if conditional else None,
            spectral_norm=spectral_norm,
        )
