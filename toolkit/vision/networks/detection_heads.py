"""Losses and detections of torchvision's detectors from one pass over the same maps, in training and in evaluation.

torchvision's own ``forward`` gives losses in training mode only and detections in evaluation mode only, so that a
validation loss costs a second pass with BatchNorm and dropout in training mode. Here the parts of its models are called
one by one, and modes stay what they are. Every image's losses are normalised by what was sampled from that image, and
averaged over the images, so that a batch in parts or on several devices gives the same gradient; torchvision does that
for RetinaNet alone. Shape legend: B batch, C channels, H height, W width, A anchors, M boxes of an image, P proposals.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from toolkit.keys import keyed_uniform
from toolkit.precision import at_least_float32

Boxes = dict[str, Tensor]
"""Of one image: "boxes" ``(M, 4)``, "labels" ``(M,)`` and, of detections, "scores" ``(M,)``."""
LOSSES: dict[type[nn.Module], tuple[str, ...]] = {
    FasterRCNN: ("objectness", "proposal_box", "classification", "box"),
    RetinaNet: ("classification", "box"),
    FCOS: ("classification", "box", "centerness"),
    SSD: ("classification", "box"),
}
"""Names of the losses of each kind, whose sum is minimised."""
HAS_BACKGROUND: tuple[type[nn.Module], ...] = (FasterRCNN, SSD)
"""Kinds whose class 0 is the background."""
RPN_STREAM, BOX_STREAM = 1000, 1001
"""Streams of `toolkit.keys` from which boxes are sampled."""


class DetectorOutput(NamedTuple):
    """What a detector says of a batch."""

    losses: dict[str, Tensor]
    """Scalars, each a mean over the images; empty without targets."""
    detections: list[Boxes]
    """Of each image, the best score first; empty where they were not asked for."""


class KeyedBoxSampler:
    """Draws anchors or proposals to learn from, each image's by its own key: the same in any batch, on any device.

    Stands in for torchvision's ``BalancedPositiveNegativeSampler``, which reads the global generator.

    Args:
        size: Boxes of an image.
        positive_fraction: Share of them that may be on objects.
        stream: Of `toolkit.keys`.
    """

    def __init__(self, size: int, positive_fraction: float, stream: int) -> None:
        self.size, self.positive_fraction, self.stream = size, positive_fraction, stream
        self.keys: Tensor | None = None

    def __call__(self, labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks ``(A,)`` of the positive and of the negative boxes drawn of each image.

        Args:
            labels: Of each image ``(A,)``: above 0 on an object, 0 on none, below 0 neither.
        """
        assert self.keys is not None, "the keys of the batch must be set"
        positive, negative = [], []
        for label, key in zip(labels, self.keys, strict=True):
            order = keyed_uniform(key[None], self.stream, len(label))[0]  # (A,)
            positive.append(_lowest(order, label >= 1, int(self.size * self.positive_fraction)))
            negative.append(_lowest(order, label == 0, self.size - int(positive[-1].sum())))
        return positive, negative


def _lowest(order: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` lowest numbers where it is allowed."""
    places = order.where(allowed, torch.inf).argsort()[: min(count, int(allowed.sum()))]
    return torch.zeros_like(allowed).index_fill(0, places, True)


def sample_by_key(model: nn.Module) -> None:
    """Let a two-stage model sample by key."""
    if isinstance(model, FasterRCNN):
        for part, stream in ((model.rpn, RPN_STREAM), (model.roi_heads, BOX_STREAM)):
            sampler = part.fg_bg_sampler
            part.fg_bg_sampler = KeyedBoxSampler(sampler.batch_size_per_image, sampler.positive_fraction, stream)


def run_heads(
    model: nn.Module,
    image: Tensor,
    sizes: Sequence[tuple[int, int]],
    features: dict[str, Tensor],
    targets: Sequence[Boxes] | None,
    key: Tensor | None,
    detects: bool,
) -> DetectorOutput:
    """From maps of features to losses and detections.

    Args:
        model: One of torchvision's detectors, of which all but the backbone is used.
        image: ``(B, C, H, W)``, of which only the size is used.
        sizes: Height and width of each image within H and W.
        features: The model's maps by name.
        targets: Boxes to learn of each image, with labels as the model counts them; None: no losses.
        key: ``(B,)``, int64, by which a two-stage model samples; needed with targets.
        detects: Whether detections are wanted.
    """
    images = ImageList(image, list(sizes))
    run = _two_stages if isinstance(model, FasterRCNN) else _one_stage
    return run(model, images, features, targets, key, detects)


def _two_stages(
    model: FasterRCNN,
    images: ImageList,
    features: dict[str, Tensor],
    targets: Sequence[Boxes] | None,
    key: Tensor | None,
    detects: bool,
) -> DetectorOutput:
    rpn, B = model.rpn, len(images.image_sizes)
    maps = list(features.values())
    objectness, deltas = rpn.head(maps)
    anchors = rpn.anchor_generator(images, [at_least_float32(m) for m in maps])
    per_level = [o[0].numel() for o in objectness]
    objectness, deltas = map(at_least_float32, concat_box_prediction_layers(objectness, deltas))  # (B * A, 1 | 4)
    decoded = rpn.box_coder.decode(deltas.detach(), anchors).view(B, -1, 4)
    proposals, _ = rpn.filter_proposals(decoded, objectness, images.image_sizes, per_level)
    losses: dict[str, Tensor] = {}
    if targets is not None:
        assert key is not None, "a model that samples boxes needs the keys of the images"
        labels, matched = rpn.assign_targets_to_anchors(anchors, targets)
        wanted = rpn.box_coder.encode(matched, anchors)
        each = []
        for i, (score, delta) in enumerate(zip(objectness.view(B, -1, 1), deltas.view(B, -1, 4), strict=True)):
            rpn.fg_bg_sampler.keys = key[i : i + 1]
            each.append(rpn.compute_loss(score, delta, [labels[i]], [wanted[i]]))
        losses = _means(("objectness", "proposal_box"), each)
    more, detections = _second_stage(model.roi_heads, images, features, proposals, targets, key, detects)
    return DetectorOutput(losses | more, detections)


def _second_stage(
    heads: Any,
    images: ImageList,
    features: dict[str, Tensor],
    proposals: list[Tensor],
    targets: Sequence[Boxes] | None,
    key: Tensor | None,
    detects: bool,
) -> tuple[dict[str, Tensor], list[Boxes]]:
    """Classify and refine proposals; where detections are wanted too, the losses are of boxes among the same ones."""
    counts = [len(boxes) for boxes in proposals]
    sampled: list[Tensor] = []
    if targets is not None:
        true_boxes, true_labels = [t["boxes"] for t in targets], [t["labels"] for t in targets]
        proposals = heads.add_gt_proposals(proposals, true_boxes)
        matched, labels = heads.assign_targets_to_proposals(proposals, true_boxes, true_labels)
        heads.fg_bg_sampler.keys = key
        sampled = heads.subsample(labels)
        labels = [label[rows] for label, rows in zip(labels, sampled, strict=True)]
        true_boxes = [boxes if len(boxes) else boxes.new_zeros(1, 4) for boxes in true_boxes]
        goals = [boxes[m[rows]] for boxes, m, rows in zip(true_boxes, matched, sampled, strict=True)]
        chosen = [boxes[rows] for boxes, rows in zip(proposals, sampled, strict=True)]
        wanted = heads.box_coder.encode(goals, chosen)
        proposals = proposals if detects else chosen
    precise = {name: at_least_float32(m) for name, m in features.items()}  # as boxes are
    # Maps are of the whole place, whatever the images in it; torchvision keeps the scales that it infers at first.
    place = (images.tensors.shape[2], images.tensors.shape[3])
    pooled = heads.box_roi_pool(precise, proposals, [place]).to(next(iter(features.values())).dtype)
    logits, deltas = map(at_least_float32, heads.box_predictor(heads.box_head(pooled)))
    lengths = [len(boxes) for boxes in proposals]
    by_image = list(zip(torch.split(logits, lengths), torch.split(deltas, lengths), strict=True))
    losses: dict[str, Tensor] = {}
    if targets is not None:
        learned = [(s[r], d[r]) for (s, d), r in zip(by_image, sampled, strict=True)] if detects else by_image
        each = [
            # no proposal may be left of an image without boxes
            fastrcnn_loss(scores, refined, [label], [goal]) if len(label) else (0 * scores.sum(), 0 * refined.sum())
            for (scores, refined), label, goal in zip(learned, labels, wanted, strict=True)
        ]
        losses = _means(("classification", "box"), each)
    if not detects:
        return losses, []
    proposed = [boxes[:count] for boxes, count in zip(proposals, counts, strict=True)]
    logits, deltas = (torch.cat([x[i][:n] for x, n in zip(by_image, counts, strict=True)]) for i in (0, 1))
    found = heads.postprocess_detections(logits, deltas, proposed, images.image_sizes)
    return losses, [{"boxes": b, "scores": s, "labels": label} for b, s, label in zip(*found, strict=True)]


def _one_stage(
    model: Any,
    images: ImageList,
    features: dict[str, Tensor],
    targets: Sequence[Boxes] | None,
    key: Tensor | None,
    detects: bool,
) -> DetectorOutput:
    maps = list(features.values())
    outputs: dict[str, Tensor] = {name: at_least_float32(x) for name, x in model.head(maps).items()}  # (B, A, ...)
    anchors = model.anchor_generator(images, [at_least_float32(m) for m in maps])
    places = [m.shape[2] * m.shape[3] for m in maps]
    per_level = [n * (len(anchors[0]) // sum(places)) for n in places]
    losses: dict[str, Tensor] = {}
    if targets is not None:
        each = []
        for i, target in enumerate(targets):
            one = {name: x[i : i + 1] for name, x in outputs.items()}
            found = model.compute_loss([target], one, [anchors[i]], *_matching(model, target, anchors[i], per_level))
            if isinstance(model, SSD) and not len(target["boxes"]):
                found["classification"] = _hardest_background(model, one["cls_logits"][0])
            each.append(
                [found[name] for name in ("classification", "bbox_regression", "bbox_ctrness") if name in found]
            )
        losses = _means(LOSSES[_kind(model)], each)
    if not detects:
        return DetectorOutput(losses, [])
    if isinstance(model, SSD):
        return DetectorOutput(losses, model.postprocess_detections(outputs, anchors, images.image_sizes))
    by_level = {name: list(torch.split(x, per_level, dim=1)) for name, x in outputs.items()}
    anchors_by_level = [list(torch.split(a, per_level)) for a in anchors]
    return DetectorOutput(losses, model.postprocess_detections(by_level, anchors_by_level, images.image_sizes))


def _matching(model: Any, target: Boxes, anchors: Tensor, per_level: list[int]) -> list[Any]:
    """What ``compute_loss`` of a kind wants to know besides."""
    if isinstance(model, FCOS):
        return [per_level]
    if not isinstance(model, SSD):
        return []
    if not len(target["boxes"]):
        return [[torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)]]
    return [[model.proposal_matcher(box_iou(target["boxes"], anchors))]]


def _hardest_background(model: SSD, logits: Tensor) -> Tensor:
    """SSD's loss of an image without boxes, from logits ``(A, K + 1)``: as many negatives as one object would bring.

    torchvision takes so many for each object, hence none.
    """
    background = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits, background, reduction="none").topk(int(model.neg_to_pos_ratio)).values.sum()


def _kind(model: nn.Module) -> type[nn.Module]:
    return next(kind for kind in LOSSES if isinstance(model, kind))


def loss_names(model: nn.Module) -> tuple[str, ...]:
    """Names of a model's losses."""
    return LOSSES[_kind(model)]


def _means(names: Sequence[str], each: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    """Means over the images."""
    return {name: torch.stack(values).mean() for name, values in zip(names, zip(*each, strict=True), strict=True)}
