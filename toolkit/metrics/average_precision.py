"""COCO's average precision of detected boxes, over a whole set and all ranks, by ``faster_coco_eval``.

Shape legend: I images, N detections, M true boxes, T IoU thresholds, R recall levels, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, DetectionBatch, Detections

IOU = np.linspace(0.5, 0.95, 10)
"""COCO's thresholds from which on a detection is right."""
RECALL = np.linspace(0.0, 1.0, 101)
"""At which recall the precision is read off."""
NAMED = 20
"""Up to how many classes each has a value of its own."""
WIDTHS = {"image": 1, "found_ids": 2, "found": 5, "true_ids": 3, "true": 5}
"""Columns of the states: (image), (image, label), (box, score), (image, label, crowd), (box, area)."""
INTEGERS = ("image", "found_ids", "true_ids")


class ClassCurves(NamedTuple):
    """What the last `compute` found for each class."""

    precision: np.ndarray
    """``(T, R, K)``, at each of `RECALL`; -1 for a class without true boxes."""
    recall: np.ndarray
    """``(T, K)``, the highest; -1 likewise."""
    true_boxes: np.ndarray
    """``(K,)``, int, how many there are, those around crowds not counted."""

    def average_precision(self, threshold: int | None = None) -> np.ndarray:
        """``(K,)``: the mean over recalls, at one place in `IOU` or over all; NaN for a class without true boxes."""
        precision = self.precision if threshold is None else self.precision[[threshold]]
        mean: np.ndarray = precision.mean(axis=(0, 1))
        return np.where(self.true_boxes > 0, mean, np.nan)


class CocoAveragePrecision(Metric):
    """Average precision and recall of boxes, as the COCO challenge defines them.

    Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; cocodataset.org/#detection-eval. A detection is
    right if it overlaps a true box of its class by more than a threshold, and no better scored one has taken it.
    ``map`` is the mean over the classes and over the thresholds .5, .55 to .95, ``map_50`` and ``map_75`` at one of
    them; ``map_small``, ``map_medium`` and ``map_large`` are for objects below 32^2, up to 96^2 and above that many
    pixels, and ``mar_100`` is the mean recall of at most 100 detections an image. -1: there is no such object.

    Args:
        num_classes: K.
        class_names: A name for each class: up to 20, their own average precision is given as ``map/<name>``.

    Raises:
        UserError: From ``compute``, if the package is missing.

    Attributes:
        curves: By class, after ``compute``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, num_classes: int, class_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_names = list(class_names) if num_classes <= NAMED else []
        self.curves: ClassCurves | None = None
        for name in WIDTHS:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, prediction: Detections, batch: DetectionBatch) -> None:
        """Note the boxes of a batch, the true ones in pixels of their files."""
        index = batch.index
        found = prediction.label != IGNORE_LABEL  # (B, D)
        true = batch.label != IGNORE_LABEL  # (B, M)
        self._append("image", index[:, None])
        self._append("found_ids", torch.stack([index[:, None].expand_as(prediction.label), prediction.label], 2)[found])
        self._append("found", torch.cat([prediction.box, prediction.score[:, :, None]], 2).float()[found])
        ids = torch.stack([index[:, None].expand_as(batch.label), batch.label, batch.crowd.long()], 2)
        self._append("true_ids", ids[true])
        self._append(
            "true", torch.cat([batch.box * batch.file_scale()[:, None], batch.area[:, :, None]], 2).float()[true]
        )

    def _append(self, name: str, rows: Tensor) -> None:
        getattr(self, name).append(rows.detach())

    def _rows(self, name: str) -> np.ndarray:
        """All rows of a state, which is a list of them before ranks are brought together, and one tensor after."""
        state: list[Tensor] | Tensor = getattr(self, name)
        rows = state if isinstance(state, Tensor) else torch.cat(state or [self._none(name)])
        return rows.cpu().numpy()

    def _none(self, name: str) -> Tensor:
        dtype = torch.int64 if name in INTEGERS else torch.float32
        return torch.empty(0, WIDTHS[name], dtype=dtype, device=self.device)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        for name in WIDTHS:  # a rank without a batch sends empty rows as wide as the others'
            if not getattr(self, name):
                setattr(self, name, [self._none(name)])
        super()._sync_dist(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """The means over all images."""
        images = sorted({int(image) for image in self._rows("image")[:, 0]})
        true_ids = self._rows("true_ids")
        true = _annotations(true_ids, self._rows("true"))
        found = _annotations(self._rows("found_ids"), self._rows("found"))
        precision, recall = _evaluate(images, found, true, self.num_classes)
        count = np.bincount(true_ids[true_ids[:, 2] == 0, 1], minlength=self.num_classes)
        self.curves = ClassCurves(precision[:, :, :, 0, -1], recall[:, :, 0, -1], count)
        values = {
            "map": _mean(precision[:, :, :, 0, -1]),
            "map_50": _mean(precision[0, :, :, 0, -1]),
            "map_75": _mean(precision[5, :, :, 0, -1]),
            "map_small": _mean(precision[:, :, :, 1, -1]),
            "map_medium": _mean(precision[:, :, :, 2, -1]),
            "map_large": _mean(precision[:, :, :, 3, -1]),
            "mar_100": _mean(recall[:, :, 0, -1]),
        }
        values |= {f"map/{name}": _mean(precision[:, :, k, 0, -1]) for k, name in enumerate(self.class_names)}
        return {name: torch.tensor(value, dtype=torch.float32, device=self.device) for name, value in values.items()}


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _annotations(ids: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
    """COCO's records of boxes: ids ``(N, 2)`` or ``(M, 3)``, rows (left, top, right, bottom, score or area)."""
    numbers = rows.astype(np.float64)
    sides = numbers[:, 2:4] - numbers[:, :2]
    boxes = np.concatenate([numbers[:, :2], sides], axis=1).tolist()
    is_true = ids.shape[1] == 3
    areas = numbers[:, 4] if is_true else sides.prod(axis=1)
    crowds = ids[:, 2] if is_true else np.zeros(len(ids), dtype=np.int64)
    fields = zip(ids.tolist(), boxes, areas.tolist(), crowds.tolist(), numbers[:, 4].tolist(), strict=True)
    return [
        # Numbers of annotations begin at 1: to the evaluation 0 means that there is no match.
        {"id": n, "image_id": i[0], "category_id": i[1], "bbox": b, "area": a, "iscrowd": c, "score": s}
        for n, (i, b, a, c, s) in enumerate(fields, start=1)
    ]


def _evaluate(
    images: Sequence[int], found: list[dict[str, Any]], true: list[dict[str, Any]], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Precision ``(T, R, K, 4, 3)`` and recall ``(T, K, 4, 3)``, by range of areas and most detections an image."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise UserError(
            "average precision needs the package faster-coco-eval, which is not installed; write python -m pip install "
            '"fulgurite[detection]".'
        ) from error

    shared = {"images": [{"id": image} for image in images], "categories": [{"id": k} for k in range(num_classes)]}
    sets = [COCO({**shared, "annotations": boxes}, print_function=_say_nothing) for boxes in (true, found)]
    evaluation = COCOeval_faster(*sets, iouType="bbox", print_function=_say_nothing)
    evaluation.params.iouThrs, evaluation.params.recThrs = IOU, RECALL
    evaluation.params.imgIds, evaluation.params.catIds = list(images), list(range(num_classes))
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    return precision.reshape(10, 101, num_classes, 4, 3), recall.reshape(10, num_classes, 4, 3)


def _say_nothing(*args: Any) -> None:
    pass
