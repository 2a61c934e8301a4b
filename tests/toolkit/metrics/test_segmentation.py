"""Scores of a whole split, against scikit-learn's on the same pixels."""

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score
from torchmetrics import MetricCollection

from toolkit.metrics.segmentation import SegmentationScores, class_iou
from toolkit.types import IGNORE_LABEL


def test_scores_equal_scikit_learn_s_over_all_batches() -> None:
    """Classes 5 and 6 never occur; class 4 is only predicted."""
    true, predicted = torch.randint(4, (6, 9, 7)), torch.randint(5, (6, 9, 7))
    true[:, 0] = IGNORE_LABEL
    scores = SegmentationScores(7)
    for part in torch.arange(6).split(4):
        scores.update(predicted[part], true[part])
    found = scores.compute()
    y, p = true[true >= 0], predicted[true >= 0]
    assert found["miou"].item() == pytest.approx(jaccard_score(y, p, average="macro", labels=range(5)))
    assert found["dice"].item() == pytest.approx(f1_score(y, p, average="macro", labels=range(5)))
    assert found["pixel_acc"].item() == pytest.approx((y == p).float().mean().item())


def test_it_is_not_the_mean_over_batches() -> None:
    scores, means = SegmentationScores(2), []
    for predicted in (torch.ones(1, 4, 4), torch.zeros(1, 4, 4)):
        true = torch.zeros(1, 4, 4)
        true[:, :1] = 1
        scores.update(predicted.long(), true.long())
        alone = SegmentationScores(2)
        alone.update(predicted.long(), true.long())
        means.append(float(alone.compute()["miou"]))
    assert float(scores.compute()["miou"]) != pytest.approx(sum(means) / 2)


def test_in_a_collection_the_names_are_plain() -> None:
    collection = MetricCollection({"scores": SegmentationScores(3)}).clone(prefix="val/")
    collection.update(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long())
    assert {name: float(value) for name, value in collection.compute().items()} == {
        "val/miou": 1,
        "val/dice": 1,
        "val/pixel_acc": 1,
    }


def test_without_a_label_there_is_no_score() -> None:
    scores = SegmentationScores(2)
    scores.update(torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), IGNORE_LABEL))
    assert all(value.isnan() for value in scores.compute().values())


def test_an_absent_class_has_no_iou() -> None:
    assert class_iou(torch.tensor([[2, 2], [0, 0]])).tolist() == [0.5, 0.0]
    assert class_iou(torch.tensor([[2, 0], [0, 0]])).isnan().tolist() == [False, True]
