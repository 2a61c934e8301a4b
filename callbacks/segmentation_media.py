"""The standard pictures of segmentation: images beside their masks, and how well each class is found.

Shape legend: B batch, C channels, H height, W width, K classes, N pictures kept.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.classification_media import EvaluationPicture
from callbacks.image_media import grid
from callbacks.mask_colors import class_colors
from callbacks.media import Image, Table, log_media
from callbacks.prediction_rows import gather_rows, sample_name
from toolkit.errors import UserError
from toolkit.metrics.segmentation import SegmentationScores, class_iou
from toolkit.types import IGNORE_LABEL, SegmentationBatch, SegmentationPrediction
from toolkit.vision.semantic_segmentation import SemanticSegmentation

IGNORED_COLOR = (224, 224, 192)
"""PASCAL VOC's for pixels that count nowhere."""
SHARE = 0.65
"""Of a class's colour over the image; the background's own colour is the image's."""


class Kept(NamedTuple):
    """Pictures of the first samples."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on it
    """``(N,)``, int64, sample numbers."""
    image: Tensor
    """``(N, C, H, W)``, uint8, raw."""
    mask: Tensor
    """``(N, H, W)``, int64, true."""
    predicted: Tensor
    """``(N, H, W)``, int64."""

    def first(self, count: int) -> "Kept":
        """Those of the smallest numbers."""
        order = self.index.argsort()[:count]
        return Kept(*(field[order] for field in self))


class PredictedMasks(EvaluationPicture):
    """The first images of the split, each with its true and its predicted mask beside it, under the sample's name.

    Args:
        count: How many.
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

    kinds = (SemanticSegmentation,)

    def __init__(self, count: int = 8, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        if count < 1:
            raise UserError(f"PredictedMasks.count: need at least 1, got {count}.")
        self.count = count

    def reset(self) -> None:
        """Forget the pictures."""
        self._kept: Kept | None = None

    def add(self, prediction: SegmentationPrediction, batch: SegmentationBatch) -> None:
        """Keep the first of a rank, which are the first of all."""
        if self._kept is None or len(self._kept.index) < self.count:
            new = Kept(batch.index, batch.image, batch.mask, prediction.mask)
            both = new if self._kept is None else Kept(*map(torch.cat, zip(self._kept, new, strict=True)))
            self._kept = Kept(*(field[: self.count] for field in both))

    def draw(self, trainer: Trainer, task: SemanticSegmentation, stage: str) -> None:
        """Draw those of all ranks with the smallest numbers."""
        if self._kept is None:
            return
        kept = Kept(*(gather_rows(task, field) for field in self._kept)).first(self.count)
        names = [sample_name(trainer, i) if stage == "test" else f"{stage}[{i}]" for i in kept.index.tolist()]
        titles = [f"{name[-28:]}\nimage, truth, prediction" for name in names]
        log_media(trainer, f"{stage}/masks", Image(grid(beside(kept), titles)))


class ClassIoU(EvaluationPicture):
    """A table of the classes: pixels, share of them that was found, intersection over union; and what was confused."""

    kinds = (SemanticSegmentation,)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks; begin to count."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SemanticSegmentation)
        self._counts = SegmentationScores(pl_module.num_classes)

    def reset(self) -> None:
        """Forget the counts."""
        self._counts.reset()

    def add(self, prediction: SegmentationPrediction, batch: SegmentationBatch) -> None:
        """Count the pixels of a batch."""
        self._counts.to(batch.mask.device).update(prediction.mask, batch.mask)

    def draw(self, trainer: Trainer, task: SemanticSegmentation, stage: str) -> None:
        """Write the table of all ranks' pixels."""
        total = trainer.strategy.reduce(self._counts.confmat, reduce_op="sum")
        assert isinstance(total, Tensor)
        log_media(trainer, f"{stage}/class_iou", Table(COLUMNS, class_rows(total.cpu(), task.class_names)))


COLUMNS = ["class", "iou", "recall", "precision", "pixels", "taken_mostly_for"]


def class_rows(confusion: Tensor, names: list[str]) -> list[list[object]]:
    """A row a class, of a confusion matrix ``(K, K)``, true by predicted."""
    iou, true, said = class_iou(confusion), confusion.sum(dim=1), confusion.sum(dim=0)
    right = confusion.diagonal()
    wrong = confusion - torch.diag(right)
    rows: list[list[object]] = []
    for number, name in enumerate(names):
        worst = names[int(wrong[number].argmax())] if wrong[number].any() else ""
        shares = (iou[number], right[number] / true[number], right[number] / said[number])
        rows.append([name, *(_share(float(share)) for share in shares), int(true[number]), worst])
    return rows


def _share(value: float) -> str:
    """Empty where there is no pixel to take a share of."""
    return "" if value != value else f"{value:.4f}"  # NaN


def beside(kept: Kept) -> Tensor:
    """Images, true and predicted masks in the colours of their classes, side by side: ``(N, 3, H, 3 W)``, uint8."""
    image = kept.image.float()
    image = image if image.shape[1] == 3 else image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    parts = [image, _painted(image, kept.mask), _painted(image, kept.predicted)]
    gap = [F.pad(part, (0, 2), value=255.0) for part in parts[:2]]
    return torch.cat([*gap, parts[2]], dim=3).round().to(torch.uint8)


def _painted(image: Tensor, mask: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` in 0..255 under the colours of masks ``(N, H, W)``; class 0 keeps the image, darker."""
    colors = torch.from_numpy(np.concatenate([class_colors(), [IGNORED_COLOR]])).float()  # (257, 3)
    color = colors[mask.where(mask != IGNORE_LABEL, 256)].permute(0, 3, 1, 2)
    return torch.lerp(image, color, SHARE)
