"""RetinaNet over the feature pyramid of any backbone."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from toolkit.errors import UserError
from toolkit.vision.networks.detector import NoBackbone, PyramidDetector


class RetinaNet(PyramidDetector):
    """Classifies and refines every anchor at once; the focal loss keeps the many easy ones from drowning the few.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; the parts are torchvision's. At each place there are
    anchors of three sizes, a third of an octave apart, and three aspect ratios. Departure: the heads' hidden layers are
    drawn as He et al. do, since the paper's deviation of .01 makes the signal of narrow ones vanish.

    Args:
        num_classes: K.
        backbone: A classifier's network with maps at the strides.
        strides: Of the maps that are taken.
        anchor_sizes: Side of the smallest anchors at each map, in pixels; two more than strides add two coarser maps.
        aspect_ratios: Height by width of the anchors.
        width: Channels of the pyramid and of the heads.
        freeze_norm: Keep the backbone's BatchNorm as it came.
        score_threshold: Detections below it are dropped.
        nms_threshold: Of two detections of a class that overlap by more (as IoU), the worse is dropped.
        max_detections: The most of an image.

    Raises:
        UserError: Anchor sizes that do not fit the strides, or a backbone without such maps.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Module,
        strides: Sequence[int] = (8, 16, 32),
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        width: int = 256,
        freeze_norm: bool = False,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        if len(anchor_sizes) - len(strides) not in (0, 2):
            raise UserError(
                f"RetinaNet.anchor_sizes: need one for each of {len(strides)} strides, or two more, got "
                f"{len(anchor_sizes)}."
            )
        extra = LastLevelP6P7(width, width) if len(anchor_sizes) > len(strides) else None
        super().__init__(backbone, strides, width, extra, freeze_norm)
        self.num_classes = num_classes
        sizes = tuple(tuple(size * 2 ** (third / 3) for third in range(3)) for size in anchor_sizes)
        self.model = TorchvisionRetinaNet(
            NoBackbone(width),
            num_classes,
            anchor_generator=AnchorGenerator(sizes, (tuple(aspect_ratios),) * len(sizes)),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=max_detections,
        )
        for name, layer in self.model.named_modules():
            if isinstance(layer, nn.Conv2d) and ".conv." in name:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
