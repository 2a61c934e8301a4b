"""What networks share that answer for places of an image: a classifier's network below them."""

from abc import ABC
from collections.abc import Sequence
from typing import Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.nn.backbone import Staged, stages_of
from toolkit.nn.feature_maps import FeatureMaps
from toolkit.nn.pretrained import PretrainedNetwork


class DenseNetwork(PretrainedNetwork, Staged, ABC):
    """A network over the maps of a backbone, which begins with the backbone's weights if it has some.

    Args:
        backbone: A classifier's network, which `FeatureMaps` cuts; pixels are normalised as its weights know them.
        strides: Of the maps that are taken, rising.
        freeze_norm: Keep the backbone's BatchNorm as it came: its statistics and its scales. Batches of detection and
            segmentation are small, and their statistics noisy.
    """

    def __init__(self, backbone: nn.Module, strides: Sequence[int], freeze_norm: bool = False) -> None:
        super().__init__()
        if isinstance(backbone, PretrainedNetwork):
            self.pixel_mean, self.pixel_std = backbone.pixel_mean, backbone.pixel_std
        self.in_channels: int = getattr(backbone, "in_channels", 3)
        self.maps = FeatureMaps(backbone, strides)
        self.freeze_norm = freeze_norm
        if freeze_norm:
            for layer in self._norms():
                layer.requires_grad_(False)
            self.train()  # a fit keeps the modes that a network comes with, so frozen layers must come in evaluation

    def _norms(self) -> list[nn.Module]:
        return [layer for layer in self.maps.modules() if isinstance(layer, _BatchNorm)]

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a frozen BatchNorm stays in evaluation."""
        super().train(mode)
        if self.freeze_norm:
            for layer in self._norms():
                layer.eval()
        return self

    def load_pretrained(self) -> None:
        """Nothing: the backbone has loaded its own weights."""

    def stages(self) -> list[list[nn.Module]]:
        """Those of the backbone, then all that is new as one."""
        own = [child for name, child in self.named_children() if name != "maps"]
        left = [
            [part for part in stage if next(part.parameters(), None) is not None] for stage in stages_of(self.maps.net)
        ]
        return [*(stage for stage in left if stage), own]
