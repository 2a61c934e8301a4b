"""The small residual networks for 32 x 32 images.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
Shape legend: B batch, C channels, H height, W width, K classes.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images


class _Subsample(nn.Module):
    """Option A of the paper: every second pixel, and zeros in the channels that are new; no parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))  # (B, C, H, W) -> (B, C', H/2, W/2)


def _shortcut(before: int, after: int, stride: int, kind: Literal["identity", "projection"]) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    if kind == "identity":
        return _Subsample(after - before)
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to the shortcut before the last ReLU (figure 5, left)."""

    def __init__(self, before: int, after: int, stride: int, shortcut: Literal["identity", "projection"]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))  # (B, C', H/stride, W/stride)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class CIFARResNet(nn.Module):
    """Three stages of residual blocks at full, half and quarter resolution, then the mean over space.

    Departures from the paper: the new channels' zeros of option A stand behind the old channels (the paper leaves the
    place open); He initialisation counts the outgoing connections, as has become usual.

    Args:
        num_classes: K.
        in_channels: C.
        depth: Layers with weights, ``6 n + 2``; 20, 32, 44, 56 and 110 in the paper.
        width: Channels of the first stage; doubled by the second and again by the third.
        shortcut: Between stages: "identity" is the paper's option A, which it uses here and which has no parameters;
            "projection" is option B, a 1 x 1 convolution with BatchNorm.

    Raises:
        UserError: No network has this depth.

    >>> import torch
    >>> CIFARResNet(num_classes=10, in_channels=3)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        depth: int = 20,
        width: int = 16,
        shortcut: Literal["identity", "projection"] = "identity",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(f"depth: need 6 n + 2 layers with n >= 1, such as 20, 32, 44, 56 or 110, got {depth}.")
        self.in_channels = in_channels
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                after, stride = width * 2**stage, 2 if stage > 0 and block == 0 else 1
                blocks.append(_BasicBlock(channels, after, stride, shortcut))
                channels = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget BatchNorm's statistics."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        nn.init.zeros_(self.head.bias)

    def forward_features(self, image: Tensor) -> Tensor:
        """The head's input.

        Args:
            image: ``(B, C, H, W)``, float, normalised; any size.

        Returns:
            ``(B, D)`` with ``D = 4 * width``.

        Raises:
            UserError: Another number of channels than the network was built for.
        """
        check_images(image, self.in_channels)
        x = F.relu(self.bn(self.conv(image)))  # (B, width, H, W)
        x = self.blocks(x)  # (B, 4 * width, H/4, W/4)
        features: Tensor = x.mean(dim=(2, 3))  # (B, D)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, C, H, W)``."""
        logits: Tensor = self.head(self.forward_features(image))  # (B, K)
        return logits
