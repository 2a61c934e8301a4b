"""What every classifier has to show: which classes are confused.

Shape legend: B batch, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import Image, check_drawn, log_media
from toolkit.errors import UserError
from toolkit.language.text_classification import TextClassification
from toolkit.types import IGNORE_LABEL, ImageBatch, ImagePrediction, LabelledTextBatch, TextPrediction
from toolkit.vision.image_classification import ImageClassification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Classifier = ImageClassification | TextClassification
CLASSIFIERS = (ImageClassification, TextClassification)
"""Tasks whose predictions are probabilities, with labels in their batches and names of the classes."""
NUMBERED = 20
"""Up to how many classes a confusion matrix carries names and numbers."""
DRAWN = 1000
"""Up to how many classes a confusion matrix is drawn at all: its memory is their square."""


class EvaluationPicture(Callback, ABC):
    """Gathers over every evaluation and draws the last one of a fit, and each test.

    A picture costs a tenth of a second, often more than the epoch it shows.

    Args:
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

    kinds: ClassVar[tuple[type, ...]] = CLASSIFIERS
    """Tasks that are drawn."""

    def __init__(self, every_n_epochs: int | None = None) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise UserError(f"{type(self).__name__}.every_n_epochs: need at least 1, got {every_n_epochs}.")
        self.every_n_epochs = every_n_epochs
        self._waits = False

    @abstractmethod
    def reset(self) -> None:
        """Forget what was gathered."""

    @abstractmethod
    def add(self, prediction: Any, batch: Any) -> None:
        """Gather from a batch: an `ImageBatch` with its `ImagePrediction`, a `LabelledTextBatch` with its own."""

    @abstractmethod
    def draw(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Draw what was gathered on all ranks; every rank comes here."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        check_drawn(self, pl_module, self.kinds)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.reset()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: int
    ) -> None:
        """Gather."""
        if not trainer.sanity_checking:
            self.add(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if it is due now and not at the end of the fit."""
        self._waits = not trainer.sanity_checking
        due = self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due or trainer.state.fn == "validate":
            self._draw_waiting(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation; after the training, whose time it would else be counted to."""
        self._draw_waiting(trainer, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.reset()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: int
    ) -> None:
        """Gather."""
        self.add(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test."""
        self.draw(trainer, pl_module, "test")

    def _draw_waiting(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:
            self.draw(trainer, pl_module, "val")
            self._waits = False


class ConfusionMatrix(EvaluationPicture):
    """How often each class was taken for each other; with names and numbers up to 20 classes, up to 1,000 at all.

    Args:
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

    def reset(self) -> None:
        """Forget the counts."""
        self._counts: Tensor | None = None  # (K * K + 1,), int64; the last one counts what is to be ignored

    def add(self, prediction: ImagePrediction | TextPrediction, batch: ImageBatch | LabelledTextBatch) -> None:
        """Count without waiting for the device."""
        K = prediction.probability.shape[1]
        if K > DRAWN:
            return
        if self._counts is None:
            self._counts = torch.zeros(K * K + 1, dtype=torch.int64, device=batch.label.device)
        cell = batch.label * K + prediction.probability.argmax(dim=1)  # (B,)
        cell = cell.where(batch.label != IGNORE_LABEL, K * K)
        self._counts.scatter_add_(0, cell, torch.ones_like(cell))

    def draw(self, trainer: Trainer, task: Classifier, stage: str) -> None:
        """Draw the sums over the ranks."""
        if self._counts is None:
            return
        total = trainer.strategy.reduce(self._counts, reduce_op="sum")
        assert isinstance(total, Tensor)
        counts = total[:-1].view(task.num_classes, task.num_classes).cpu().numpy()
        if trainer.is_global_zero:
            picture = Image.of_figure(_confusion_figure(counts, task.class_names, f"{stage}, {counts.sum()} samples"))
        else:
            picture = Image(np.zeros((1, 1, 3), dtype=np.uint8))
        log_media(trainer, f"{stage}/confusion_matrix", picture)


def _confusion_figure(counts: np.ndarray, names: Sequence[str], title: str) -> "Figure":
    """Counts ``(K, K)``, true by predicted; coloured by the share of the true class."""
    from matplotlib.figure import Figure

    K = len(counts)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    numbered = K <= NUMBERED
    side = 2.5 + 0.45 * K if numbered else 8.0
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if numbered:
        shorter = [name if len(name) <= 16 else f"{name[:15]}…" for name in names]
        axes.set_xticks(range(K), shorter, rotation=90 if max(map(len, shorter)) > 3 else 0)
        axes.set_yticks(range(K), shorter)
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    return figure
