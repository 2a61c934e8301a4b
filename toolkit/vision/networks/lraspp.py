"""Lite R-ASPP. Shape legend: B batch, C channels, H height, W width, K classes."""

from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from toolkit.nn.image_input import check_images
from toolkit.vision.networks.dense import DenseNetwork
from toolkit.vision.networks.segmentation_unet import enlarged


class LRASPP(DenseNetwork):
    """A light head on two maps: the coarse one, weighted by channel, and details of the fine one.

    Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4; torchvision's head over any backbone, whose
    strides stay (the paper dilates its last stage to an output stride of 16).

    Args:
        backbone: A classifier's network; see `toolkit.nn.feature_maps.FeatureMaps`.
        num_classes: K.
        strides: Of the fine and the coarse map.
        width: Channels of the head.
        freeze_norm: Keep the backbone's BatchNorm as it came.

    Raises:
        UserError: The backbone has no map at a stride.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        strides: tuple[int, int] = (8, 16),
        width: int = 128,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__(backbone, strides, freeze_norm)
        low, high = self.maps.widths
        self.head = LRASPPHead(low, high, num_classes, width)

    def forward(self, image: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float, normalised, to logits ``(B, K, H, W)``.

        Raises:
            UserError: Another number of channels.
        """
        check_images(image, self.in_channels)
        low, high = self.maps(image)
        return enlarged(self.head({"low": low, "high": high}), image)
