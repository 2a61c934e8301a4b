"""DeepLabV3. Shape legend: K classes."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from toolkit.vision.networks.segmentation_head import OneMapNetwork


class DeepLabV3(OneMapNetwork):
    """A head that looks at the last map at several distances at once: atrous spatial pyramid pooling.

    Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, with
    torchvision's pyramid over any backbone. Departure: the backbone keeps its strides, where the paper dilates its last
    stages to an output stride of 16 or 8; ask for the ``stride`` that suits the details. The branch of the whole image
    normalises one value a channel and image, so that a training batch needs two images on each device.

    Args:
        backbone: A classifier's network; see `toolkit.nn.feature_maps.FeatureMaps`.
        num_classes: K.
        stride: Of the map.
        auxiliary_stride: Of a finer map with an auxiliary head; None: none.
        rates: Distances between the weights of 3x3 convolutions, in places of the map; the paper's for stride 16.
        width: Channels of the head.
        freeze_norm: Keep the backbone's BatchNorm as it came.

    Raises:
        UserError: The backbone has no map at a stride.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        stride: int = 16,
        auxiliary_stride: int | None = None,
        rates: Sequence[int] = (6, 12, 18),
        width: int = 256,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, stride, auxiliary_stride, freeze_norm)
        self.head = nn.Sequential(
            ASPP(self.maps.widths[-1], list(rates), width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, num_classes, 1),
        )
