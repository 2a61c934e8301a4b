"""What FCN and DeepLabV3 share: a head on one map, and an auxiliary one on a finer map.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from abc import ABC

from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from toolkit.nn.image_input import check_images
from toolkit.vision.networks.dense import DenseNetwork
from toolkit.vision.networks.segmentation_unet import enlarged


class OneMapNetwork(DenseNetwork, ABC):
    """A backbone whose map a ``head``, which the subclass sets, turns into logits.

    Args:
        backbone: A classifier's network.
        num_classes: K.
        stride: Of the map.
        auxiliary_stride: Of a finer map with an auxiliary head; None: none.
        freeze_norm: Keep the backbone's BatchNorm as it came.
    """

    head: nn.Module

    def __init__(
        self, backbone: nn.Module, num_classes: int, stride: int, auxiliary_stride: int | None, freeze_norm: bool
    ) -> None:
        super().__init__(backbone, [stride] if auxiliary_stride is None else [auxiliary_stride, stride], freeze_norm)
        self.auxiliary = None if auxiliary_stride is None else FCNHead(self.maps.widths[0], num_classes)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images ``(B, C, H, W)``, float, normalised, to logits ``(B, K, H, W)``; in training also the auxiliary ones.

        Raises:
            UserError: Another number of channels.
        """
        check_images(image, self.in_channels)
        maps = self.maps(image)
        logits = enlarged(self.head(maps[-1]), image)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, enlarged(self.auxiliary(maps[0]), image)
