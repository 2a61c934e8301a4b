"""The standard pictures of detection: true boxes beside detected ones, and how well each class is found.

Shape legend: B batch, C channels, H height, W width, K classes, M true boxes and D detections of an image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.classification_media import NUMBERED, EvaluationPicture
from callbacks.drawn_boxes import drawn_boxes
from callbacks.media import Image, Table, check_drawn, log_media
from toolkit.errors import UserError
from toolkit.metrics.average_precision import RECALL, ClassCurves
from toolkit.types import IGNORE_LABEL, DetectionBatch, Detections
from toolkit.vision.object_detection import ObjectDetection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 6
"""White pixels between pictures."""
COLUMNS = ["class", "ap", "ap_50", "ap_75", "recall_50", "boxes"]


class Pair(NamedTuple):
    """An image with its true boxes, and with those that were found; all in pixels of the image as it lies here."""

    image: Tensor
    """``(C, h, w)``, uint8."""
    true_box: Tensor
    """``(M, 4)``."""
    true_label: Tensor
    """``(M,)``, int64; ``IGNORE_LABEL`` for padding."""
    crowd: Tensor
    """``(M,)``, bool."""
    box: Tensor
    """``(D, 4)``."""
    score: Tensor
    """``(D,)``."""
    label: Tensor
    """``(D,)``, int64; ``IGNORE_LABEL`` for padding."""


class DetectedBoxes(EvaluationPicture):
    """The first images of the first device, the true boxes on the left and the detected ones on the right.

    Args:
        count: How many images.
        least_score: Detections with a lower score are not drawn.
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

    kinds = (ObjectDetection,)

    def __init__(self, count: int = 8, least_score: float = 0.3, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        if count < 1:
            raise UserError(f"DetectedBoxes.count: need at least 1, got {count}.")
        self.count = count
        self.least_score = least_score

    def reset(self) -> None:
        """Forget the pictures."""
        self._pairs: list[Pair] = []

    def add(self, prediction: Detections, batch: DetectionBatch) -> None:
        """Keep the first ones."""
        for row in range(min(len(batch.image), self.count - len(self._pairs))):
            self._pairs.append(pair_of(prediction, batch, row))

    def draw(self, trainer: Trainer, task: ObjectDetection, stage: str) -> None:
        """Draw them in two columns of pairs."""
        if self._pairs:
            pairs = [self._drawn(pair, task.class_names) for pair in self._pairs]
            log_media(trainer, f"{stage}/boxes", Image(_sheet(pairs)))

    def _drawn(self, pair: Pair, names: Sequence[str]) -> np.ndarray:
        true, shown = pair.true_label != IGNORE_LABEL, (pair.label != IGNORE_LABEL) & (pair.score >= self.least_score)
        crowds, label = pair.crowd[true].tolist(), pair.true_label[true].tolist()
        words = [
            f"{names[number]} (crowd)" if crowd else names[number] for number, crowd in zip(label, crowds, strict=True)
        ]
        left = drawn_boxes(pair.image, pair.true_box[true], label, words)
        right = drawn_boxes(pair.image, *boxes_and_texts(pair, shown, names))
        return np.concatenate([left, np.full((len(left), 2, 3), 255, np.uint8), right], axis=1)


def pair_of(prediction: Detections, batch: DetectionBatch, row: int) -> Pair:
    """An image of a batch, on the CPU, with the detections in its pixels."""
    height, width = batch.size[row].clamp(min=1).tolist()  # one black pixel of what could not be read
    true = (batch.box[row], batch.label[row], batch.crowd[row])
    found = (prediction.box[row] / batch.file_scale()[row], prediction.score[row], prediction.label[row])
    return Pair(*(field.cpu() for field in (batch.image[row, :, :height, :width], *true, *found)))


def boxes_and_texts(pair: Pair, shown: Tensor, names: Sequence[str]) -> tuple[Tensor, list[int], list[str]]:
    """Detections that are shown ``(D,)``, as `drawn_boxes` takes them."""
    label = pair.label[shown].tolist()
    texts = [f"{names[number]} {score:.2f}" for number, score in zip(label, pair.score[shown].tolist(), strict=True)]
    return pair.box[shown], label, texts


def _sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of several sizes in two columns, on white."""
    height, width = (max(picture.shape[axis] for picture in pictures) + GAP for axis in (0, 1))
    rows = -(-len(pictures) // 2)
    sheet = np.full((rows * height, min(2, len(pictures)) * width, 3), 255, dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // 2 * height, place % 2 * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


class PrecisionCurves(Callback):
    """How well each class is found: a table, and precision over recall at an IoU of .5; at the end of the evaluation.

    Up to 20 classes have a curve each; of more, the mean is drawn.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        check_drawn(self, pl_module, (ObjectDetection,))

    def __init__(self) -> None:
        self._last: ClassCurves | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw an evaluation of its own; keep one of a fit, which is not the check before the first epoch."""
        assert isinstance(pl_module, ObjectDetection)
        self._last = None if trainer.sanity_checking else pl_module.class_curves("val")
        if trainer.state.fn == "validate":
            self._draw(trainer, self._last, pl_module.class_names, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation."""
        assert isinstance(pl_module, ObjectDetection)
        self._draw(trainer, self._last, pl_module.class_names, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test."""
        assert isinstance(pl_module, ObjectDetection)
        self._draw(trainer, pl_module.class_curves("test"), pl_module.class_names, "test")

    def _draw(self, trainer: Trainer, curves: ClassCurves | None, names: Sequence[str], stage: str) -> None:
        if curves is not None:
            log_media(trainer, f"{stage}/average_precision", Table(COLUMNS, _rows(curves, names)))
            log_media(trainer, f"{stage}/precision_recall", Image.of_figure(_figure(curves, names, stage)))


def _rows(curves: ClassCurves, names: Sequence[str]) -> list[list[str | int]]:
    """A row a class; empty where it has no true box."""
    count = curves.true_boxes
    recall = np.where(count > 0, curves.recall[0], np.nan)
    columns = (*(curves.average_precision(threshold) for threshold in (None, 0, 5)), recall)
    return [
        [name, *("" if np.isnan(column[k]) else f"{column[k]:.4f}" for column in columns), int(count[k])]
        for k, name in enumerate(names)
    ]


def _figure(curves: ClassCurves, names: Sequence[str], stage: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    present = np.flatnonzero(curves.true_boxes > 0)
    scores = curves.average_precision(0)
    if len(present) > NUMBERED:
        mean = curves.precision[0][:, present].mean(axis=1)
        axes.plot(RECALL, mean, label=f"mean of {len(present)} classes {scores[present].mean():.3f}")
    else:
        for k in present[np.argsort(-scores[present], kind="stable")]:
            axes.plot(RECALL, curves.precision[0, :, k], label=f"{names[k][:20]} {scores[k]:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"{stage}, IoU 0.5")
    if len(present):
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
