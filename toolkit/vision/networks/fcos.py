"""FCOS over the feature pyramid of any backbone."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import fcos
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from toolkit.errors import UserError
from toolkit.vision.networks.detector import NoBackbone, PyramidDetector


class FCOS(PyramidDetector):
    """Asks of every place of a map whether it lies in an object, and how far the object's sides are: no anchors.

    Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019; the parts are torchvision's. A map
    of stride s looks for boxes whose farthest side is 4 s to 8 s away; the first takes smaller ones too, the last
    larger ones.

    Args:
        num_classes: K.
        backbone: A classifier's network with maps at the strides.
        strides: Of the maps that are taken.
        coarser_maps: Maps of double the stride each that are added: 2, or 0.
        width: Channels of the pyramid and of the heads, a multiple of 32.
        depth: Convolutions of each head.
        freeze_norm: Keep the backbone's BatchNorm as it came.
        score_threshold: Detections below it are dropped.
        nms_threshold: Of two detections of a class that overlap by more (as IoU), the worse is dropped.
        max_detections: The most of an image.

    Raises:
        UserError: A number is not allowed, or a backbone without such maps.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Module,
        strides: Sequence[int] = (8, 16, 32),
        coarser_maps: int = 2,
        width: int = 256,
        depth: int = 4,
        freeze_norm: bool = False,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        if coarser_maps not in (0, 2) or width % 32 or width < 32:
            raise UserError(
                f"FCOS: need coarser_maps 0 or 2 and width a multiple of 32, got {coarser_maps} and {width}."
            )
        extra = LastLevelP6P7(width, width) if coarser_maps else None
        super().__init__(backbone, strides, width, extra, freeze_norm)
        self.num_classes = num_classes
        steps = [*strides, *(strides[-1] * 2 ** (n + 1) for n in range(coarser_maps))]
        self.model = fcos.FCOS(
            NoBackbone(width),
            num_classes,
            anchor_generator=AnchorGenerator(tuple((step,) for step in steps), ((1.0,),) * len(steps)),
            head=fcos.FCOSHead(width, 1, num_classes, depth),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=max_detections,
        )
