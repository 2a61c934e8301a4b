"""torchvision's residual networks for images of 32 x 32 pixels."""

import torchvision.models as tv
from torch import nn

from toolkit.errors import UserError
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier


class CIFARStem(TorchvisionClassifier):
    """A ResNet whose stem keeps the resolution: a 3 x 3 convolution of stride 1, and no pooling; random weights.

    Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
    2020, appendix B.9.

    Args:
        num_classes: K.
        in_channels: C.
        name: A ResNet, ResNeXt or wide ResNet of torchvision.

    Raises:
        UserError: Another architecture.

    >>> import torch
    >>> CIFARStem(num_classes=5).backbone.layer1(torch.zeros(1, 64, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    def __init__(self, num_classes: int, in_channels: int = 3, name: str = "resnet18") -> None:
        super().__init__(num_classes, in_channels, name)
        if not isinstance(self.backbone, tv.ResNet):
            raise UserError(f"name: CIFARStem changes the stem of a ResNet, got {name!r}; such as resnet18.")
        stem = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.backbone.set_submodule("conv1", stem)
        self.backbone.set_submodule("maxpool", nn.Identity())
        self.smallest_size = 1
