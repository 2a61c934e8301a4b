"""The standard pictures of image classification: what goes in, the worst errors.

Shape legend: B batch, C channels, H height, W width, K classes, N pictures kept.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.classification_media import EvaluationPicture
from callbacks.media import Image, Table, check_drawn, log_media
from callbacks.prediction_rows import gather_rows, sample_name
from toolkit.errors import UserError
from toolkit.nn.normalize import Normalize
from toolkit.types import IGNORE_LABEL, ImageBatch, ImagePrediction, SemiSupervisedBatch
from toolkit.vision.image_classification import ImageClassification

TILE = (96, 224)
"""Smallest and largest side of a picture in a grid, in pixels."""
CAPTION = 30
"""Height of two lines of text below a picture."""


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
        check_drawn(self, pl_module, (ImageClassification,))

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

    kinds = (ImageClassification,)

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
