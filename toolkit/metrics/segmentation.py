"""What is measured of labelled pixels: one confusion matrix over all of a split. Shape legend: K classes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from toolkit.types import IGNORE_LABEL


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class: pixels that are rightly of it, by those that are or are said to be.

    Args:
        confusion: ``(K, K)``, pixels by true and predicted class.

    Returns:
        ``(K,)``, float64 in ``[0, 1]``; NaN for a class of which there is no pixel, true or predicted.

    >>> class_iou(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).tolist()
    [0.75, 0.8, nan]
    """
    counts = confusion.cpu().double()
    right = counts.diagonal()
    return right / (counts.sum(dim=0) + counts.sum(dim=1) - right)


class SegmentationScores(MulticlassConfusionMatrix):
    """Mean IoU, mean Dice and pixel accuracy of a whole split, whatever its batches and the number of devices.

    Both means are over the classes that the split has or that were predicted in it: a class of which there is neither
    says nothing (Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015, section
    3.4, sums over the split, too). Pixels labelled ``IGNORE_LABEL`` count nowhere.

    Args:
        num_classes: K; takes predicted and true classes ``(B, H, W)``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=IGNORE_LABEL, validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count pixels; torchmetrics' own way takes pixels times K squared numbers under deterministic algorithms."""
        known = target != IGNORE_LABEL
        cell = (target * self.num_classes + preds)[known]
        counts = torch.zeros(self.num_classes**2, dtype=torch.int64, device=cell.device)
        self.confmat += counts.scatter_add_(0, cell, torch.ones_like(cell)).view_as(self.confmat)

    def compute(self) -> Any:
        """The scores by name; NaN where nothing is labelled."""
        iou = class_iou(self.confmat)  # (K,)
        accuracy = self.confmat.diagonal().sum() / self.confmat.sum()
        dice = 2 * iou / (1 + iou)
        scores = {"miou": iou.nanmean(), "dice": dice.nanmean(), "pixel_acc": accuracy}
        return {name: score.to(self.confmat.device, torch.float32) for name, score in scores.items()}
