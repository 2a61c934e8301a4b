"""COCO's average precision against its reference implementation, whole and in parts."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.metrics.average_precision import WIDTHS, CocoAveragePrecision
from toolkit.types import IGNORE_LABEL, DetectionBatch, Detections

K = 4
REFERENCE = {"map": 0, "map_50": 1, "map_75": 2, "map_small": 3, "map_medium": 4, "map_large": 5, "mar_100": 8}
"""Where the reference prints each value."""


def scenes(images: int, seed: int = 0) -> tuple[Detections, DetectionBatch]:
    """Boxes at random and detections near them, with ties of scores, crowds, padding and a class that is never true."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    M, D = 9, 25
    size = torch.randint(100, 300, (images, 2), generator=generator)
    original = (size * 1.7).round().long()
    corner = uniform(images, M, 2) * 80
    box = torch.cat([corner, corner + 5 + uniform(images, M, 2) * 60], dim=2)
    label = torch.randint(0, K - 1, (images, M), generator=generator)
    label = label.where(uniform(images, M) > 0.3, IGNORE_LABEL).sort(dim=1, descending=True).values
    scale = (original / size).flip(1).repeat(1, 2)[:, None]
    area = (box[..., 2:] - box[..., :2]).prod(dim=2) * uniform(images, M) * 20
    near = torch.randint(0, M, (images, D), generator=generator)
    shift = torch.randn(images, D, 4, generator=generator) * 4
    found = (box * scale).gather(1, near[:, :, None].expand(images, D, 4)) + shift
    named = label.gather(1, near).clamp(min=0)
    named = torch.randint(0, K, (images, D), generator=generator).where(uniform(images, D) < 0.2, named)
    score = (uniform(images, D) * 20).round() / 20
    index = torch.arange(images)
    prediction = Detections(found, score, named, index)
    crowd = uniform(images, M) < 0.1
    image = torch.zeros(images, 1, 1, 1, dtype=torch.uint8)
    return prediction, DetectionBatch(image, size, original, box, label, crowd, area, index, index)


def rows(structure: Any, index: Tensor) -> Any:
    """Some images of a batch."""
    return type(structure)(*(field[index] for field in structure))


def reference(prediction: Detections, batch: DetectionBatch) -> np.ndarray:
    """What pycocotools says of the same boxes."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    scale = (batch.original_size / batch.size).flip(1).repeat(1, 2)[:, None]

    def xywh(box: Tensor) -> list[float]:
        left, top, right, bottom = box.double().tolist()
        return [left, top, right - left, bottom - top]

    true = [
        {"image_id": i, "category_id": int(label), "bbox": xywh(box), "area": float(area), "iscrowd": int(crowd)}
        for i, image in enumerate(zip(batch.box * scale, batch.label, batch.area, batch.crowd, strict=True))
        for box, label, area, crowd in zip(*image, strict=True)
        if label != IGNORE_LABEL
    ]
    found = [
        {"image_id": i, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for i, image in enumerate(zip(prediction.box, prediction.label, prediction.score, strict=True))
        for box, label, score in zip(*image, strict=True)
    ]
    data = coco.COCO()
    data.dataset = {
        "images": [{"id": i} for i in range(len(batch.box))],
        "categories": [{"id": k} for k in range(K)],
        "annotations": [{**box, "id": n} for n, box in enumerate(true, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
        judge = evaluation.COCOeval(data, data.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return np.asarray(judge.stats)


def test_equals_the_reference() -> None:
    """Crowds, ranges of areas, ties and resized images included."""
    prediction, batch = scenes(40)
    metric = CocoAveragePrecision(K)
    metric.update(prediction, batch)
    found, stats = metric.compute(), reference(prediction, batch)
    for name, place in REFERENCE.items():
        assert float(found[name]) == pytest.approx(stats[place], abs=1e-6), name
    assert 0.1 < float(found["map"]) < 0.9, "the scenes must tell good detections from bad ones"


def test_parts_and_their_order_do_not_matter() -> None:
    """Batches of any size, in any order, with padding behind the detections."""
    prediction, batch = scenes(15)
    whole, parts = CocoAveragePrecision(K), CocoAveragePrecision(K)
    whole.update(prediction, batch)
    for part in (
        torch.tensor([9, 3, 14]),
        torch.tensor([0]),
        torch.tensor([i for i in range(15) if i not in (0, 3, 9, 14)]),
    ):
        padded = rows(prediction, part)
        pad = (0, 2)
        padded = padded._replace(
            box=torch.nn.functional.pad(padded.box, (0, 0, *pad)),
            score=torch.nn.functional.pad(padded.score, pad),
            label=torch.nn.functional.pad(padded.label, pad, value=IGNORE_LABEL),
        )
        parts.update(padded, rows(batch, part))
    assert parts.compute() == whole.compute()


def test_curves_by_class() -> None:
    """The mean over the classes that occur is ``map``; the one that does not is NaN."""
    prediction, batch = scenes(20)
    metric = CocoAveragePrecision(K, "abcd")
    metric.update(prediction, batch)
    found = metric.compute()
    assert metric.curves is not None
    by_class = metric.curves.average_precision()
    for name, value in zip("abc", by_class, strict=False):
        assert float(found[f"map/{name}"]) == pytest.approx(value, abs=1e-6)
    assert float(found["map/d"]) == -1
    assert np.isnan(by_class[K - 1])
    assert np.nanmean(by_class) == pytest.approx(float(found["map"]), abs=1e-6)
    assert np.nanmean(metric.curves.average_precision(0)) == pytest.approx(float(found["map_50"]), abs=1e-6)
    assert int(metric.curves.true_boxes.sum()) == int(((batch.label != IGNORE_LABEL) & ~batch.crowd).sum())


def test_nothing_found_and_nothing_there() -> None:
    """No detection at all scores 0; no object at all scores -1."""
    prediction, batch = scenes(3)
    nothing = prediction._replace(label=torch.full_like(prediction.label, IGNORE_LABEL))
    metric = CocoAveragePrecision(K)
    metric.update(nothing, batch)
    assert float(metric.compute()["map"]) == 0
    metric.reset()
    metric.update(nothing, batch._replace(label=torch.full_like(batch.label, IGNORE_LABEL)))
    assert float(metric.compute()["map"]) == -1


def test_ranks_with_other_numbers_of_images() -> None:
    """A rank without an image, and one with two, together: what one rank says of both."""
    prediction, batch = scenes(2)
    full, empty = CocoAveragePrecision(K), CocoAveragePrecision(K)
    full.update(prediction, batch)
    expected = full.compute()
    sent = {name: torch.cat(getattr(full, name)) for name in WIDTHS}
    gathered = iter(sent.values())  # in the order in which a metric sends its states
    empty._sync_dist(dist_sync_fn=lambda own, group: [own, next(gathered)])
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert empty.compute() == expected
