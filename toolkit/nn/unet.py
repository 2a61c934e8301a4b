"""A small U-Net that knows how noisy its input is.

Shape legend: B batch, C channels, H height, W width, K classes, E embedding dimensions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images
from toolkit.precision import at_least_float32

GROUPS = 8
"""Groups of each normalisation."""


def sinusoidal_embedding(position: Tensor, dim: int) -> Tensor:
    """Sines and cosines of geometrically spaced frequencies.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5, for positions in ``[0, 1]`` times 1,000.

    Args:
        position: ``(B,)``, in ``[0, 1]``.
        dim: E, even.

    Returns:
        ``(B, E)``, at least float32: half precision would take most positions for their neighbours.

    >>> sinusoidal_embedding(torch.zeros(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    position = at_least_float32(position)
    number = torch.arange(dim // 2, device=position.device, dtype=position.dtype)
    frequency = torch.exp(-math.log(10_000) * number / (dim // 2))
    angle = 1000 * position[:, None] * frequency  # (B, E / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class _Block(nn.Module):
    """Two convolutions; the embedding scales and shifts between them; the last one begins as zero."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, before), nn.Conv2d(before, after, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * after)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, after), nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        output: Tensor = self.shortcut(x) + y
        return output


class UNet(nn.Module):
    """Residual blocks at falling and rising resolution, with connections across; time and class modulate each block.

    Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015; blocks and modulation as in Dhariwal and Nichol, "Diffusion Models
    Beat GANs on Image Synthesis", NeurIPS 2021, without attention. Patches of pixels are read and written at once,
    which makes it ``patch ** 2`` times as fast (Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023).

    Args:
        in_channels: C.
        num_classes: K.
        conditional: Whether it takes classes; class K stands for none.
        width: Channels at the highest resolution, a multiple of 8.
        multipliers: Of the width, for each resolution; each is half the one before.
        blocks: At each resolution.
        patch: Pixels on a side that are one position of the highest resolution.

    Raises:
        UserError: A width that the normalisation's groups do not divide; an image that cannot be halved so often.

    >>> net = UNet(in_channels=1, width=8, multipliers=[1, 2])
    >>> net(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int | None = None,
        conditional: bool = False,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        patch: int = 1,
    ) -> None:
        super().__init__()
        if width < 1 or width % GROUPS or not multipliers or blocks < 1 or patch < 1:
            raise UserError(
                f"UNet: need a width that {GROUPS} divides, multipliers, and blocks and patch of at least 1, got width "
                f"{width}, multipliers {list(multipliers)}, blocks {blocks}, patch {patch}."
            )
        self.in_channels, self.patch = in_channels, patch
        self.factor = patch * 2 ** (len(multipliers) - 1)
        self.num_classes = num_classes if conditional else None
        embedding = 4 * width
        self.embed_time = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_class = nn.Embedding((num_classes or 0) + 1, embedding) if conditional else None
        self.width = width
        self.stem = nn.Conv2d(in_channels * patch**2, width, 3, padding=1)
        widths = [width * multiplier for multiplier in multipliers]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        channels, kept = width, []
        for level, after in enumerate(widths):
            for _ in range(blocks):
                self.down.append(_Block(channels, after, embedding))
                channels = after
                kept.append(channels)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(channels, channels, 3, 2, 1))
        self.middle = _Block(channels, channels, embedding)
        for level, after in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(_Block(channels + kept.pop(), after, embedding))
                channels = after
            if level:
                self.grow.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.blocks = blocks
        self.head = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, in_channels * patch**2, 3, padding=1)
        )

    def forward(self, image: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """One number a pixel.

        Args:
            image: ``(B, C, H, W)``.
            time: ``(B,)``, in ``[0, 1]``.
            label: ``(B,)``, int64; K for no class. None: no class for all.

        Returns:
            ``(B, C, H, W)``.
        """
        check_images(image, self.in_channels)
        if any(side % self.factor for side in image.shape[2:]):
            raise UserError(
                f"UNet: needs sides divisible by {self.factor} (patch and halvings), got {list(image.shape[2:])}; "
                "write fewer multipliers or a smaller patch."
            )
        embedding = F.silu(self._embedding(image, time, label))
        x = self.stem(F.pixel_unshuffle(image, self.patch))  # (B, width, H / patch, W / patch)
        kept = []
        for number, block in enumerate(self.down, start=1):
            x = block(x, embedding)
            kept.append(x)
            if number % self.blocks == 0 and number < len(self.down):
                x = self.shrink[number // self.blocks - 1](x)
        x = self.middle(x, embedding)
        for number, block in enumerate(self.up, start=1):
            x = block(torch.cat([x, kept.pop()], dim=1), embedding)
            if number % self.blocks == 0 and number < len(self.up):
                x = self.grow[number // self.blocks - 1](F.interpolate(x, scale_factor=2))
        output: Tensor = F.pixel_shuffle(self.head(x), self.patch)
        return output

    def _embedding(self, image: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        embedding: Tensor = self.embed_time(sinusoidal_embedding(time, self.width).to(image.dtype))
        if self.embed_class is not None:
            if label is None:
                label = torch.full((len(image),), self.embed_class.num_embeddings - 1, device=image.device)
            embedding = embedding + self.embed_class(label)
        return embedding
