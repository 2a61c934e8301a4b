"""The standard pictures of image classification: what goes in, which classes are confused, the worst errors.

Shape legend: B batch, C channels, H height, W width, K classes, N pictures kept.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import Image, Table, log_media
from callbacks.prediction_writer import gather_rows, sample_name
from toolkit.errors import UserError
from toolkit.nn.normalize import Normalize
from toolkit.types import IGNORE_LABEL, ImageBatch, ImagePrediction, SemiSupervisedBatch
from toolkit.vision.image_classification import ImageClassification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE = (96, 224)
"""Smallest and largest side of a picture in a grid, in pixels."""
CAPTION = 30
"""Height of two lines of text below a picture."""
NUMBERED = 20
"""Up to how many classes a confusion matrix carries names and numbers."""
DRAWN = 1000
"""Up to how many classes a confusion matrix is drawn at all: its memory is their square."""


class InputImages(Callback):
    """The first training batch as the network sees it, augmented and normalised, shown in its own colours.

    Args:
        count: How many images.
    """

    def __init__(self, count: int = 16) -> None:
        self.count = count
        self._done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _check_task(self, pl_module)

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ImageBatch | SemiSupervisedBatch, batch_idx: int
    ) -> None:
        """Draw once a run; of a batch with unlabelled images the labelled ones."""
        if self._done:
            return
        self._done = True
        assert isinstance(pl_module, ImageClassification)
        labelled = batch.labelled if isinstance(batch, SemiSupervisedBatch) else batch
        few = ImageBatch(*(field[: self.count] for field in labelled))
        pixels = raw_pixels(pl_module.normalize, pl_module.network_input(few, training=True))
        log_media(trainer, "train/input_images", Image(grid(pixels)))


class EvaluationPicture(Callback, ABC):
    """Gathers over every evaluation and draws the last one of a fit, and each test.

    A picture costs a tenth of a second, often more than the epoch it shows.

    Args:
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

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
        """Gather from a batch: an `ImageBatch` with its `ImagePrediction`, or a `LabelledTextBatch` with its own."""

    @abstractmethod
    def draw(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Draw what was gathered on all ranks; every rank comes here."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _check_task(self, pl_module)

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
        assert isinstance(pl_module, ImageClassification)
        self.draw(trainer, pl_module, "test")

    def _draw_waiting(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:
            assert isinstance(pl_module, ImageClassification)
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

    def add(self, prediction: ImagePrediction, batch: ImageBatch) -> None:
        """Count without waiting for the device."""
        K = prediction.probability.shape[1]
        if K > DRAWN:
            return
        if self._counts is None:
            self._counts = torch.zeros(K * K + 1, dtype=torch.int64, device=batch.label.device)
        cell = batch.label * K + prediction.probability.argmax(dim=1)  # (B,)
        cell = cell.where(batch.label != IGNORE_LABEL, K * K)
        self._counts.scatter_add_(0, cell, torch.ones_like(cell))

    def draw(self, trainer: Trainer, task: ImageClassification, stage: str) -> None:
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


class Worst(NamedTuple):
    """The most confident errors so far."""

    probability: Tensor
    """``(N,)``, of the wrong class; negative where there were fewer errors than places."""
    label: Tensor
    """``(N,)``, int64, the true class."""
    predicted: Tensor
    """``(N,)``, int64."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on it
    """``(N,)``, int64, the sample's number."""
    image: Tensor
    """``(N, C, H, W)``, uint8, raw."""

    def top(self, count: int) -> "Worst":
        """The worst of them."""
        order = self.probability.topk(min(count, len(self.probability))).indices
        return Worst(*(field[order] for field in self))


class WorstErrors(EvaluationPicture):
    """The wrong predictions that were most certain: a grid, and a table with the samples' names.

    Args:
        count: How many.
        every_n_epochs: Draw during the fit too, after every so many epochs.
    """

    def __init__(self, count: int = 16, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        if count < 1:
            raise UserError(f"WorstErrors.count: need at least 1, got {count}.")
        self.count = count

    def reset(self) -> None:
        """Forget the errors."""
        self._worst: Worst | None = None

    def add(self, prediction: ImagePrediction, batch: ImageBatch) -> None:
        """Keep the worst of those so far and those of the batch, without waiting for the device."""
        best = prediction.probability.max(dim=1)
        wrong = (best.indices != batch.label) & (batch.label != IGNORE_LABEL)
        probability = best.values.where(wrong, -1.0)
        new = Worst(probability, batch.label, best.indices, batch.index, batch.image).top(self.count)
        if self._worst is not None:
            new = Worst(*map(torch.cat, zip(self._worst, new, strict=True))).top(self.count)
        self._worst = new

    def draw(self, trainer: Trainer, task: ImageClassification, stage: str) -> None:
        """Draw the worst of all ranks; nothing if nothing was wrong."""
        if self._worst is None:
            return
        worst = Worst(*(gather_rows(task, field) for field in self._worst)).top(self.count)
        worst = Worst(*(field[worst.probability >= 0] for field in worst))
        if not len(worst.index):
            return
        names = [task.class_names[number] for number in worst.label.tolist()]
        guesses = [task.class_names[number] for number in worst.predicted.tolist()]
        probabilities = worst.probability.tolist()
        titles = [f"{a[:14]} →\n{b[:14]} {p:.2f}" for a, b, p in zip(names, guesses, probabilities, strict=True)]
        samples = [sample_name(trainer, i) if stage == "test" else f"{stage}[{i}]" for i in worst.index.tolist()]
        columns = ["sample", "true", "predicted", "probability"]
        rows = list(zip(samples, names, guesses, (round(p, 6) for p in probabilities), strict=True))
        log_media(trainer, f"{stage}/worst_errors", Image(grid(worst.image, titles)))
        log_media(trainer, f"{stage}/worst_errors_table", Table(columns, rows))


def raw_pixels(normalize: Normalize, image: Tensor) -> Tensor:
    """Normalised images ``(B, C, H, W)`` as uint8 pixels again."""
    mean, std = (statistic.float()[:, None, None] for statistic in (normalize.mean, normalize.std))
    return (image.float() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)


def grid(image: Tensor, titles: Sequence[str] | None = None) -> np.ndarray:
    """Lay pictures out in rows of about as many as there are rows, small ones enlarged, with text below.

    Args:
        image: ``(N, C, H, W)``, uint8; other than three channels are shown as their mean.
        titles: Two lines of text for each.

    Returns:
        ``(H', W', 3)``, uint8.
    """
    tiles = _tiles(image.cpu())
    N, height, width, _ = tiles.shape
    columns = math.ceil(math.sqrt(N))
    below = CAPTION if titles else 0
    cell = (height + below + 4, width + 4)
    canvas = np.full((math.ceil(N / columns) * cell[0], columns * cell[1], 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * cell[0] + 2, number % columns * cell[1] + 2
        canvas[top : top + height, left : left + width] = tile
    return _with_titles(canvas, titles, columns, cell) if titles else canvas


def _tiles(image: Tensor) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, H', W', 3)``, uint8, of a size that can be seen: whole multiples of small pictures."""
    floating = image.float()
    if image.shape[1] != 3:
        floating = floating.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    side = max(image.shape[2:])
    if side < TILE[0]:
        floating = F.interpolate(floating, scale_factor=math.ceil(TILE[0] / side), mode="nearest")
    elif side > TILE[1]:
        size = [max(1, round(length * TILE[1] / side)) for length in image.shape[2:]]
        floating = F.interpolate(floating, size=size, mode="bilinear", antialias=True)
    return floating.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _with_titles(canvas: np.ndarray, titles: Sequence[str], columns: int, cell: tuple[int, int]) -> np.ndarray:
    import matplotlib
    import PIL.Image
    from PIL import ImageDraw, ImageFont

    picture = PIL.Image.fromarray(canvas)
    # Pillow's own font has little beyond Latin letters.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 10)
    pen = ImageDraw.Draw(picture)
    for number, title in enumerate(titles):
        place = (number % columns * cell[1] + 3, (number // columns + 1) * cell[0] - CAPTION - 1)
        pen.multiline_text(place, title, fill=(0, 0, 0), font=font, spacing=1)
    return np.asarray(picture)


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


def _check_task(callback: Callback, pl_module: LightningModule) -> None:
    if not isinstance(pl_module, ImageClassification):
        raise UserError(
            f"{type(callback).__name__}: draws ImageClassification, got {type(pl_module).__name__}; remove it from "
            "trainer.callbacks."
        )
