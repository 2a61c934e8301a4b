"""The fully convolutional network. Shape legend: K classes."""

from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from toolkit.vision.networks.segmentation_head import OneMapNetwork


class FCN(OneMapNetwork):
    """A classifier's last map with a small head, enlarged to the image; torchvision's head over any backbone.

    Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. Departures, those of
    torchvision: one map and no connections across, and if asked for an auxiliary head on a finer map, which learns with
    the other and is not asked for an answer.

    Args:
        backbone: A classifier's network; see `toolkit.nn.feature_maps.FeatureMaps`.
        num_classes: K.
        stride: Of the map.
        auxiliary_stride: Of a finer map with an auxiliary head; None: none.
        freeze_norm: Keep the backbone's BatchNorm as it came.

    Raises:
        UserError: The backbone has no map at a stride.

    >>> import torch
    >>> from toolkit.nn.resnet import CIFARResNet
    >>> backbone = CIFARResNet(num_classes=1, in_channels=3, width=8)
    >>> FCN(backbone, num_classes=5, stride=4).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5, 32, 32])
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        stride: int = 16,
        auxiliary_stride: int | None = None,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, stride, auxiliary_stride, freeze_norm)
        self.head = FCNHead(self.maps.widths[-1], num_classes)
