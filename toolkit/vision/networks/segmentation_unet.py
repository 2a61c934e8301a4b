"""A plain U-Net for labels of pixels.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.backbone import Staged
from toolkit.nn.image_input import check_images


class _Block(nn.Sequential):
    """Two convolutions, each with BatchNorm and ReLU."""

    def __init__(self, before: int, after: int) -> None:
        layers: list[nn.Module] = []
        for width in (before, after):
            layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class SegmentationUNet(Staged, nn.Module):
    """Convolutions at falling and then at rising resolution, with connections across.

    Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    Departures: convolutions are padded, so that the answer has the size of the image; BatchNorm; maps are enlarged
    bilinearly and not by transposed convolutions. With a ``stride`` it works on a coarser grid throughout, and its
    logits are enlarged: a quarter of the time for a stride of 2, at the price of details finer than two pixels.

    Args:
        num_classes: K.
        in_channels: C.
        widths: Channels at each resolution, each half the one before.
        stride: Of the first convolution: pixels on a side of one place of the finest grid.
        dropout: Share of the coarsest map's channels that training drops.

    Raises:
        UserError: No width, or a stride below 1; from ``forward``, images that cannot be halved so often.

    >>> import torch
    >>> SegmentationUNet(num_classes=5, in_channels=3, widths=[4, 8])(torch.zeros(2, 3, 15, 10)).shape
    torch.Size([2, 5, 15, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        widths: Sequence[int] = (16, 32, 64, 128),
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise UserError(
                f"SegmentationUNet.widths: need positive numbers, such as [16, 32, 64], got {list(widths)}."
            )
        if stride < 1:
            raise UserError(f"SegmentationUNet.stride: need 1 or more, got {stride}; 1 answers for each pixel.")
        self.in_channels = in_channels
        self.smallest = stride * 2 ** (len(widths) - 1)
        first = nn.Conv2d(in_channels, widths[0], 3, stride=stride, padding=1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))
        self.down = nn.ModuleList(_Block(before, after) for before, after in pairwise([widths[0], *widths]))
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(_Block(fine + coarse, fine) for fine, coarse in reversed([*pairwise(widths)]))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal initialisation of the filters; a head so small that all classes begin equal."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(torch.as_tensor(self.head.bias))

    def stages(self) -> list[list[nn.Module]]:
        """Stem, each resolution on the way down, each on the way up, head."""
        return [[self.stem], *([block] for block in self.down), *([block] for block in self.up), [self.head]]

    def forward(self, image: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float, normalised, to logits ``(B, K, H, W)``.

        Raises:
            UserError: Another number of channels, or too few pixels.
        """
        check_images(image, self.in_channels)
        if min(image.shape[2:]) < self.smallest:
            raise UserError(
                f"SegmentationUNet: needs images of at least {self.smallest}x{self.smallest} pixels for so many "
                f"widths, got {tuple(image.shape[2:])}; give fewer widths."
            )
        x = self.stem(image)  # (B, widths[0], H / stride, W / stride)
        across = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else F.max_pool2d(x, 2))
            across.append(x)
        x = self.dropout(across.pop())
        for block in self.up:
            fine = across.pop()
            x = block(torch.cat([fine, enlarged(x, fine)], dim=1))
        return enlarged(self.head(x), image)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """A map at the resolution of another one or of an image, bilinearly."""
    size = like.shape[2:]
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
