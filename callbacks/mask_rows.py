"""Predicted masks as files, and a row an image that says how much of it is of each class."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.mask_colors import class_colors
from callbacks.prediction_rows import Rows, file_stem, gather_rows, unreadable
from toolkit.types import SegmentationPrediction
from toolkit.vision.semantic_segmentation import SemanticSegmentation


@runtime_checkable
class SizedSamples(Protocol):
    """A DataModule that knows how large the files of its samples are."""

    def sample_size(self, index: int) -> tuple[int, int]:
        """Height and width of a file's picture."""


class MaskRows(Rows):
    """A paletted PNG of class numbers for each image, at the size of its file where that is known; and the shares.

    The PNGs lie beside the CSV, in a folder of its name and ``_masks``.

    Args:
        top_k: Not used.
    """

    def __init__(self, top_k: int) -> None:
        self._batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def begin(self, trainer: Trainer, pl_module: LightningModule, target: Path) -> None:
        """Make the folder of the masks."""
        assert isinstance(pl_module, SemanticSegmentation)
        self._trainer = trainer
        self._names = pl_module.class_names
        self._folder = target.with_name(f"{target.stem}_masks")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._palette = class_colors().flatten().tolist()

    def add(self, prediction: SegmentationPrediction) -> None:
        """Write the masks of a batch; keep the shares of the classes."""
        index, mask = prediction.index.cpu(), prediction.mask.cpu()
        cell = mask.flatten(1)  # (B, HW)
        count = torch.zeros(len(mask), len(self._names)).scatter_add_(
            1, cell, torch.ones_like(cell, dtype=torch.float32)
        )
        confidence = prediction.confidence.cpu().flatten(1).mean(dim=1)
        suspect = index[confidence == 0].tolist()
        wrong = set(unreadable(self._trainer, suspect)) if suspect else set()
        readable = torch.tensor([number not in wrong for number in index.tolist()])
        for number, pixels, can_be_read in zip(index.tolist(), mask.numpy(), readable.tolist(), strict=True):
            if can_be_read:
                self._write(number, pixels.astype(np.uint8))
        self._batches.append((index, count / cell.shape[1], confidence, readable))

    def _write(self, index: int, pixels: np.ndarray) -> None:
        from PIL import Image

        picture = Image.fromarray(pixels)
        data = getattr(self._trainer, "datamodule", None)
        if isinstance(data, SizedSamples):
            height, width = data.sample_size(index)
            picture = picture.resize((width, height), Image.Resampling.NEAREST)
        picture.putpalette(self._palette)
        picture.save(self._folder / f"{file_stem(self._trainer, index)}.png")

    def gather(self, pl_module: LightningModule) -> None:
        """Bring the ranks' rows together, sorted by sample number."""
        parts = [gather_rows(pl_module, torch.cat(part)) for part in zip(*self._batches, strict=True)]
        order = parts[0].argsort()
        self._index, self._share, self._confidence, self._readable = (part[order] for part in parts)

    def columns(self) -> list[str]:
        """The mask's file, the mean confidence, and the share of each class."""
        return ["mask", "confidence", *(f"share_{name}" for name in self._names)]

    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """The values as text."""
        for row, index in enumerate(self._index.tolist()):
            shares = [f"{value:.6g}" for value in self._share[row].tolist()]
            file = f"{self._folder.name}/{file_stem(self._trainer, index)}.png"
            fields = [file, f"{self._confidence[row].item():.6g}", *shares]
            yield index, fields if self._readable[row] else None
