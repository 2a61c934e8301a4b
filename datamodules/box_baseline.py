"""What a detector scores that never looks: boxes of the mean size in random places.

Shape legend: N images, K classes.
"""

import torch
from torch import Tensor

from datamodules.annotated_images import PackedBoxes
from toolkit.metrics.average_precision import CocoAveragePrecision
from toolkit.types import Baseline, DetectionBatch, Detections

IMAGES = 500
"""At most so many images of a split are scored: a baseline must cost little."""
SEED = 0

Split = tuple[PackedBoxes, Tensor]
"""Boxes of N images, and their heights and widths ``(N, 2)``."""


def mean_boxes_baseline(train: Split, split: Split, num_classes: int) -> Baseline:
    """Score as many random boxes in each image as the training images have on average.

    Each box has a class, drawn by its share of the training boxes, and the mean width and height of that class as part
    of the image's; it lies anywhere within the image, with a random score.

    Args:
        train: Where numbers, shares and sizes are from.
        split: What is scored, at most `IMAGES` of it.
        num_classes: K.

    Returns:
        "map" and "map_50".
    """
    count, share, mean_size = _statistics(train, num_classes)
    draw = torch.Generator().manual_seed(SEED)
    boxes, sizes = split
    index = torch.randperm(len(sizes), generator=draw)[:IMAGES].sort().values  # (B,)
    image_size = sizes[index]  # (B, 2)
    B = len(index)
    label = torch.multinomial(share, B * count, replacement=True, generator=draw).view(B, count)
    side = mean_size[label] * image_size[:, None]  # (B, count, 2), height and width
    corner = torch.rand(B, count, 2, generator=draw) * (image_size[:, None] - side)
    box = torch.cat([corner.flip(2), (corner + side).flip(2)], dim=2)
    score = torch.rand(B, count, generator=draw).sort(dim=1, descending=True).values
    true_box, true_label, crowd, area = (field.cpu() for field in boxes.padded(index))
    truth = DetectionBatch(
        torch.zeros(B, 1, 1, 1, dtype=torch.uint8),
        image_size,
        image_size,
        true_box,
        true_label,
        crowd,
        area,
        index,
        index,
    )
    metric = CocoAveragePrecision(num_classes)
    metric.update(Detections(box, score, label, index), truth)
    values = metric.compute()
    return Baseline("boxes of the mean size at random", {name: float(values[name]) for name in ("map", "map_50")})


def _statistics(train: Split, num_classes: int) -> tuple[int, Tensor, Tensor]:
    """What the training boxes are like, but for those around crowds.

    Returns:
        (boxes an image, at least 1; number of each class ``(K,)``; mean height and width ``(K, 2)`` as part of the
        image's).
    """
    boxes, sizes = train
    box, label, single = boxes.box.cpu(), boxes.label.cpu(), ~boxes.crowd.cpu()
    image_size = sizes.repeat_interleave(boxes.count, dim=0)[single]  # (S, 2)
    box, label = box[single], label[single]
    number = label.bincount(minlength=num_classes)
    side = (box[:, 2:] - box[:, :2]).flip(1) / image_size
    total = torch.zeros(num_classes, 2).index_add_(0, label, side)
    share = number.float() if len(label) else torch.ones(num_classes)
    return max(1, round(len(label) / max(1, len(sizes)))), share, total / number.clamp(min=1)[:, None]
