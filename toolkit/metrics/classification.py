"""What is measured of every classifier besides its accuracy."""

from typing import Any

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from toolkit.types import IGNORE_LABEL


def classification_metrics(num_classes: int) -> MetricCollection:
    """Macro F1, calibration error, and above five classes whether the label is among the five most probable.

    Args:
        num_classes: K; the metrics take probabilities ``(B, K)`` and labels ``(B,)``.
    """
    common: dict[str, Any] = {"num_classes": num_classes, "ignore_index": IGNORE_LABEL, "validate_args": False}
    metrics: dict[str, Any] = {
        "f1": MulticlassF1Score(average="macro", **common),
        "ece": MulticlassCalibrationError(n_bins=15, norm="l1", **common),
    }
    if num_classes > 5:
        metrics["acc_top5"] = MulticlassAccuracy(top_k=5, average="micro", **common)
    # torchmetrics would let two metrics share one state if it is equal after the first batch, which top-1 and top-5 are
    # where that batch has no error.
    return MetricCollection(metrics, compute_groups=False)
