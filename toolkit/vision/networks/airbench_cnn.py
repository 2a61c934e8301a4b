"""A convolutional network made to learn 32x32 images in few seconds.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images


class AirbenchCNN(nn.Module):
    """Three blocks of two convolutions on a 2x2 patch embedding, as in Jordan's CIFAR-10 speedrun.

    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024. Kept from it: the small first convolution, pooling
    before the first normalisation of a block, batch normalisation without scale and with a short memory, filters that
    begin as the identity, GELU, global max pooling, logits divided by their number of features. Left out: the whitening
    of the first convolution from the data, which begins here from an orthogonal basis of the patches instead.

    Args:
        num_classes: K.
        in_channels: C.
        widths: Channels of the three blocks.
        logit_scale: Factor on the logits, over the number of features.

    Raises:
        UserError: Not three widths, or images smaller than 16x16.
    """

    def __init__(
        self, num_classes: int, in_channels: int, widths: Sequence[int] = (64, 256, 256), logit_scale: float = 1.0
    ) -> None:
        super().__init__()
        if len(widths) != 3 or min(widths) < 1:
            raise UserError(f"AirbenchCNN.widths: need three positive numbers, such as [64, 256, 256], got {widths}.")
        self.in_channels = in_channels
        patch = 2 * in_channels * 2 * 2  # each direction of patch space and its opposite
        self.patches = nn.Conv2d(in_channels, patch, kernel_size=2)
        self.blocks = nn.Sequential(*(_Block(i, o) for i, o in zip([patch, *widths[:2]], widths, strict=True)))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        self.scale = logit_scale / widths[-1]
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Patch directions and their opposites; filters that pass their input through; torch's default head."""
        weight = self.patches.weight
        basis = nn.init.orthogonal_(torch.empty(len(weight) // 2, weight[0].numel())) * weight[0].numel() ** 0.5
        weight.copy_(torch.cat([basis, -basis]).view_as(weight))
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
                nn.init.dirac_(module.weight[: module.in_channels])
        self.head.reset_parameters()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to features ``(B, widths[-1])``.

        Raises:
            UserError: Another number of channels, or images smaller than 16x16.
        """
        check_images(x, self.in_channels)
        if min(x.shape[2:]) < 16:
            raise UserError(f"AirbenchCNN: needs images of at least 16x16 pixels, got {tuple(x.shape[2:])}.")
        x = F.gelu(self.patches(x))  # (B, 8C, H-1, W-1)
        x = self.blocks(x)  # (B, widths[-1], ~H/8, ~W/8)
        return x.amax(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float, normalised, to logits ``(B, K)``."""
        logits: Tensor = self.head(self.forward_features(x)) * self.scale
        return logits


class _Block(nn.Module):
    """Convolution, pooling, norm, GELU; convolution, norm, GELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, H, W)`` to ``(B, out, H // 2, W // 2)``."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def _norm(channels: int) -> nn.BatchNorm2d:
    """Shift only: the filters' scale is fixed by the optimizer or learned by the next layer."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
