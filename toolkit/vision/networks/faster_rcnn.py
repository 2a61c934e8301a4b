"""Faster R-CNN over the feature pyramid of any backbone."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from toolkit.errors import UserError
from toolkit.vision.networks.detection_heads import sample_by_key
from toolkit.vision.networks.detector import NoBackbone, PyramidDetector


class FasterRCNN(PyramidDetector):
    """One network proposes boxes, a second one classifies and refines what lies in them.

    Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015, with a
    feature pyramid; the parts are torchvision's. The defaults are the papers', for images of about 800 pixels; for
    smaller ones and on a CPU narrower layers, fewer proposals and smaller anchors serve.

    Args:
        num_classes: K.
        backbone: A classifier's network with maps at the strides.
        strides: Of the maps that are taken.
        anchor_sizes: Side of the anchors at each map, in pixels; one more than strides adds a map of half the size.
        aspect_ratios: Height by width of the anchors.
        width: Channels of the pyramid.
        box_width: Width of the second network's two layers.
        proposals: How many boxes the second network sees of an image when it detects.
        samples: Boxes that it learns from in an image, out of twice as many proposals and the true ones; the first one
            learns from half as many anchors.
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
        strides: Sequence[int] = (4, 8, 16, 32),
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        width: int = 256,
        box_width: int = 1024,
        proposals: int = 1000,
        samples: int = 512,
        freeze_norm: bool = False,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        if len(anchor_sizes) - len(strides) not in (0, 1):
            raise UserError(
                f"FasterRCNN.anchor_sizes: need one for each of {len(strides)} strides, and at most one more, got "
                f"{len(anchor_sizes)}."
            )
        extra = LastLevelMaxPool() if len(anchor_sizes) > len(strides) else None
        super().__init__(backbone, strides, width, extra, freeze_norm)
        self.num_classes = num_classes
        pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], output_size=7, sampling_ratio=2)
        self.model = TorchvisionFasterRCNN(
            NoBackbone(width),
            rpn_anchor_generator=AnchorGenerator(
                tuple((size,) for size in anchor_sizes), (tuple(aspect_ratios),) * len(anchor_sizes)
            ),
            rpn_pre_nms_top_n_train=2 * proposals,
            rpn_post_nms_top_n_train=2 * proposals,
            rpn_pre_nms_top_n_test=proposals,
            rpn_post_nms_top_n_test=proposals,
            rpn_batch_size_per_image=samples // 2,
            box_roi_pool=pool,
            box_head=TwoMLPHead(width * 7 * 7, box_width),
            box_predictor=FastRCNNPredictor(box_width, num_classes + 1),
            box_score_thresh=score_threshold,
            box_nms_thresh=nms_threshold,
            box_detections_per_img=max_detections,
            box_batch_size_per_image=samples,
        )
        sample_by_key(self.model)
