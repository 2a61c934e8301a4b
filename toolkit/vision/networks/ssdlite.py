"""SSDlite over the maps of any backbone. Shape legend: B batch, C channels, H height, W width."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation

from toolkit.vision.networks.dense import DenseNetwork
from toolkit.vision.networks.detector import Detector, NoBackbone


class SSDlite(Detector, DenseNetwork):
    """Small and fast: depthwise heads on the backbone's last maps and on a few coarser ones, without a pyramid.

    Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, with the heads of Sandler et al., "MobileNetV2:
    Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2; the parts are torchvision's. The boxes at each
    place grow from ``smallest`` of the image's sides at the first map to ``largest`` at the last.

    Args:
        num_classes: K.
        backbone: A classifier's network with maps at the strides.
        strides: Of the maps that are taken.
        extra_widths: Channels of the coarser maps, each of half the size of the one before.
        smallest: Share of the image's sides.
        largest: Likewise.
        freeze_norm: Keep the backbone's BatchNorm as it came.
        score_threshold: Detections below it are dropped.
        nms_threshold: Of two detections of a class that overlap by more (as IoU), the worse is dropped.
        max_detections: The most of an image.

    Raises:
        UserError: A backbone without such maps.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Module,
        strides: Sequence[int] = (16, 32),
        extra_widths: Sequence[int] = (512, 256, 256, 128),
        smallest: float = 0.2,
        largest: float = 0.95,
        freeze_norm: bool = False,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.55,
        max_detections: int = 100,
    ) -> None:
        super().__init__(backbone, strides, freeze_norm)
        self.num_classes = num_classes
        self.stride = strides[-1]
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        widths = [*self.maps.widths, *extra_widths]
        pairs = zip(widths[len(strides) - 1 :], extra_widths, strict=False)
        self.extra = nn.ModuleList(_coarser(before, after, norm) for before, after in pairs)
        for layer in self.extra.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.03)
        boxes = DefaultBoxGenerator([[2, 3]] * len(widths), min_ratio=smallest, max_ratio=largest)
        self.model = SSD(
            NoBackbone(widths[-1]),
            boxes,
            (320, 320),  # of torchvision's own resizing, which is not used
            num_classes + 1,
            head=SSDLiteHead(widths, boxes.num_anchors_per_location(), num_classes + 1, norm),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=max_detections,
        )

    def forward_maps(self, image: Tensor) -> dict[str, Tensor]:
        """The backbone's maps, then the coarser ones."""
        maps = self.maps(image)
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return {str(i): m for i, m in enumerate(maps)}


def _coarser(before: int, after: int, norm: partial[nn.BatchNorm2d]) -> nn.Sequential:
    """Half the height and width: 1 x 1, depthwise 3 x 3 with stride 2, 1 x 1."""
    options = {"norm_layer": norm, "activation_layer": nn.ReLU6}
    inner = after // 2
    return nn.Sequential(
        Conv2dNormActivation(before, inner, kernel_size=1, **options),
        Conv2dNormActivation(inner, inner, kernel_size=3, stride=2, groups=inner, **options),
        Conv2dNormActivation(inner, after, kernel_size=1, **options),
    )
