"""A classifier's last layer that compares directions. Shape legend: B batch, D width of the features, K classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError


class CosineLinear(nn.Linear):
    """The scaled cosine between the features and a direction of each class.

    Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018, section 3.1; there the scale is learned.

    Args:
        in_features: D.
        num_classes: K.
        scale: Of the cosine; about the largest difference of two logits.

    Raises:
        UserError: The scale is not positive.

    >>> CosineLinear(2, 3, scale=20.0)(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(self, in_features: int, num_classes: int, scale: float) -> None:
        if scale <= 0:
            raise UserError(f"CosineLinear: need a positive scale, got {scale}.")
        super().__init__(in_features, num_classes, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, K)``; lengths are computed in float32 at least."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return self.scale * F.linear(F.normalize(x.to(wide), dim=1), F.normalize(self.weight.to(wide), dim=1))

    @torch.no_grad()
    def imprint(self, features: Tensor, label: Tensor) -> None:
        """Take the mean direction of each class's features as its weights; those of a class without any stay.

        Args:
            features: ``(N, D)``.
            label: ``(N,)``, class numbers.
        """
        directions = F.normalize(features.float(), dim=1)
        total = torch.zeros_like(self.weight, dtype=torch.float32).index_add_(0, label, directions)  # (K, D)
        found = label.bincount(minlength=len(total)) > 0
        self.weight[found] = F.normalize(total, dim=1)[found].to(self.weight.dtype)
