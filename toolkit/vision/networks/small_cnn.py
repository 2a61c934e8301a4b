"""A small convolutional network for small images.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images


class SmallCNN(nn.Module):
    """Stages of two 3x3 convolutions with batch normalisation, halved by max pooling in between; global max pooling.

    Of LeNet's size (LeCun et al., "Gradient-based learning applied to document recognition", 1998) with the parts of
    today: 36,000 parameters with the default widths. Takes images from 8x8 pixels on.

    Args:
        num_classes: K.
        in_channels: C.
        widths: Channels of each stage; the last has one convolution.
        dropout: Share of features dropped before the head, in ``[0, 1)``.

    Raises:
        UserError: No width, or images too small to be halved between the stages.
    """

    def __init__(
        self, num_classes: int, in_channels: int, widths: Sequence[int] = (16, 32, 64), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise UserError(f"SmallCNN.widths: need positive numbers, such as [16, 32, 64], got {list(widths)}.")
        self.in_channels = in_channels
        self.smallest = 2 ** (len(widths) - 1)
        layers: list[nn.Module] = []
        for number, (before, width) in enumerate(pairwise([in_channels, *widths]), start=1):
            layers += _convolution(before, width)
            if number < len(widths):
                layers += [*_convolution(width, width), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal initialisation of the filters; torch's default head."""
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.head.reset_parameters()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to features ``(B, widths[-1])``.

        Raises:
            UserError: Another number of channels, or too few pixels.
        """
        check_images(x, self.in_channels)
        if min(x.shape[2:]) < self.smallest:
            raise UserError(
                f"SmallCNN: needs images of at least {self.smallest}x{self.smallest} pixels for so many widths, got "
                f"{tuple(x.shape[2:])}; give fewer widths."
            )
        features: Tensor = self.layers(x).amax(dim=(2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float, normalised, to logits ``(B, K)``."""
        logits: Tensor = self.head(self.dropout(self.forward_features(x)))
        return logits


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
