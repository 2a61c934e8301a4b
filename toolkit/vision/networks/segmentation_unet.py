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


class _Layer(nn.Sequential):
    """Convolution, BatchNorm if asked for, and ReLU."""

    def __init__(self, before: int, after: int, batch_norm: bool, kernel: int = 3, stride: int = 1) -> None:
        conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=not batch_norm)
        super().__init__(conv, *([nn.BatchNorm2d(after)] if batch_norm else []), nn.ReLU(inplace=True))


class _Block(nn.Sequential):
    """Two convolutions at one resolution."""

    def __init__(self, before: int, after: int, batch_norm: bool) -> None:
        super().__init__(_Layer(before, after, batch_norm), _Layer(after, after, batch_norm))


class SegmentationUNet(Staged, nn.Module):
    """Convolutions at falling and then at rising resolution, with connections across.

    Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    Departures: convolutions are padded, so that the answer has the size of the image; BatchNorm; maps are enlarged
    bilinearly and not by transposed convolutions. With a ``stride`` it works on a coarser grid throughout, and each
    place answers for all its pixels (Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network", CVPR 2016): a quarter of the time for a stride of 2.

    Args:
        num_classes: K.
        in_channels: C.
        widths: Channels at each resolution, each half the one before.
        stride: Of the first convolution: pixels on a side of one place of the finest grid.
        dropout: Share of the coarsest map's channels that training drops.
        batch_norm: Normalise behind every convolution.

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
        batch_norm: bool = True,
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
        self.stem = _Layer(in_channels, widths[0], batch_norm, kernel=max(3, 2 * stride - 1), stride=stride)
        self.down = nn.ModuleList(_Block(a, b, batch_norm) for a, b in pairwise([widths[0], *widths]))
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(_Block(a + b, a, batch_norm) for a, b in reversed([*pairwise(widths)]))
        self.head = nn.Conv2d(widths[0], num_classes * stride**2, 1)
        self.stride = stride
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
        logits = F.pixel_shuffle(self.head(x), self.stride)  # (B, K, H, W), up to stride - 1 more
        return logits[..., : image.shape[2], : image.shape[3]]


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """A map at the resolution of another one or of an image, bilinearly."""
    size = like.shape[2:]
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
