"""Predictions as a CSV: one row a sample, in the order of the samples, whatever the number of devices."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.detection_rows import DetectionRows
from callbacks.mask_rows import MaskRows
from callbacks.prediction_rows import Rows, gather_rows, sample_name, unreadable
from toolkit.errors import UserError
from toolkit.language.translation import Translation
from toolkit.types import (
    IGNORE_LABEL,
    Detections,
    ImagePrediction,
    SegmentationPrediction,
    TextPrediction,
    Translations,
)


class KeptClasses(NamedTuple):
    """Of each sample its k most probable classes."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on it
    """``(N,)``, int64, sample numbers."""
    readable: Tensor
    """``(N,)``, bool."""
    probability: Tensor
    """``(N, k)``, float32, falling."""
    number: Tensor
    """``(N, k)``, int64, class numbers."""


class ClassRows(Rows):
    """The most probable classes and their probabilities.

    Args:
        top_k: How many classes.
    """

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k
        self._batches: list[KeptClasses] = []

    def add(self, prediction: ImagePrediction | TextPrediction) -> None:
        """Keep the top classes."""
        index = prediction.index
        readable = prediction.readable if isinstance(prediction, ImagePrediction) else torch.ones_like(index).bool()
        top = prediction.probability.topk(min(self.top_k, prediction.probability.shape[1]), dim=1)
        kept = (index, readable, top.values, top.indices)
        self._batches.append(KeptClasses(*(part.cpu() for part in kept)))

    def gather(self, pl_module: LightningModule) -> None:
        """Bring the ranks' rows together, sorted by sample number."""
        parts = [gather_rows(pl_module, torch.cat(part)) for part in zip(*self._batches, strict=True)]
        order = parts[0].argsort()
        self._kept = KeptClasses(*(part[order] for part in parts))

    def columns(self) -> list[str]:
        """Class and probability, then the runners-up."""
        count = self._kept.probability.shape[1]
        more = [name for place in range(2, count + 1) for name in (f"class_{place}", f"probability_{place}")]
        return ["predicted", "probability", *more]

    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """Class names and probabilities."""
        task: Any = pl_module
        for index, readable, probabilities, numbers in zip(*(part.tolist() for part in self._kept), strict=True):
            best = zip(numbers, probabilities, strict=True)
            fields = [text for number, p in best for text in (task.class_names[number], f"{p:.6g}")]
            yield index, fields if readable else None


class FieldRows(Rows):
    """Any other prediction that is a NamedTuple of tensors with an ``index``: a column a field, or one a component.

    A field ``readable`` is no column: where it is false, all others are empty.

    Args:
        top_k: Not used.
    """

    def __init__(self, top_k: int) -> None:
        self._batches: list[tuple[Tensor, ...]] = []
        self._names: tuple[str, ...] = ()

    def add(self, prediction: Any) -> None:
        """Keep it all."""
        self._names = prediction._fields
        self._batches.append(tuple(field.reshape(len(field), -1).cpu() for field in prediction))

    def gather(self, pl_module: LightningModule) -> None:
        """Bring the ranks' rows together, sorted by sample number."""
        parts = [gather_rows(pl_module, torch.cat(part)) for part in zip(*self._batches, strict=True)]
        fields = dict(zip(self._names, parts, strict=True))
        self._index = fields.pop("index")[:, 0]
        order = self._index.argsort()
        self._index = self._index[order]
        readable = fields.pop("readable", None)
        self._readable = torch.ones_like(order).bool() if readable is None else readable[order, 0]
        self._fields = {name: field[order] for name, field in fields.items()}

    def columns(self) -> list[str]:
        """Names of the fields; numbered where a field has several components."""
        widths = {name: field.shape[1] for name, field in self._fields.items()}
        return [name if width == 1 else f"{name}_{i}" for name, width in widths.items() for i in range(width)]

    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """The values as text."""
        for row, index in enumerate(self._index.tolist()):
            texts = [_text(value) for field in self._fields.values() for value in field[row].tolist()]
            yield index, texts if self._readable[row] else None


def _text(value: bool | int | float) -> str:
    """Six digits of a float; an integer as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(int(value))


class TranslationRows(Rows):
    """The text of each translation, and its log probability.

    Args:
        top_k: Not used.
    """

    def __init__(self, top_k: int) -> None:
        self._batches: list[Translations] = []

    def add(self, prediction: Translations) -> None:
        """Keep it all."""
        self._batches.append(Translations(*(field.cpu() for field in prediction)))

    def gather(self, pl_module: LightningModule) -> None:
        """Bring the ranks' rows together, sorted by sample number; all of them as long as the longest."""
        longest = gather_rows(pl_module, torch.tensor([max(batch.token.shape[1] for batch in self._batches)]))
        padded = [
            F.pad(batch.token, (0, int(longest.max()) - batch.token.shape[1]), value=IGNORE_LABEL)
            for batch in self._batches
        ]
        fields = torch.cat(padded), *(torch.cat([batch[i] for batch in self._batches]) for i in (1, 2))
        parts = [gather_rows(pl_module, field) for field in fields]
        order = parts[2].argsort()
        self._kept = Translations(*(part[order] for part in parts))

    def columns(self) -> list[str]:
        """The text and the score."""
        return ["translation", "score"]

    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """Spelled by the task's vocabulary."""
        assert isinstance(pl_module, Translation)
        texts = pl_module.texts_of(self._kept.token)
        for index, text, score in zip(self._kept.index.tolist(), texts, self._kept.score.tolist(), strict=True):
            yield index, [" ".join(text.split()), f"{score:.6g}"]  # a line each


ROWS: dict[type, Callable[[int], Rows]] = {
    Detections: DetectionRows,
    ImagePrediction: ClassRows,
    SegmentationPrediction: MaskRows,
    TextPrediction: ClassRows,
    Translations: TranslationRows,
}
"""How each kind of prediction is written; others are written field by field."""


class PredictionWriter(Callback):
    """Writes what `predict` gives, when all samples are through.

    The columns: ``path`` (or the sample's number), the fields of its prediction, and ``error``, the reason why a sample
    could not be read, whose other fields are empty.

    Args:
        path: The CSV; by default ``predictions.csv`` in the folder of the run.
        top_k: How many classes of each sample.

    Raises:
        UserError: The file cannot be written, or the prediction is of a kind that has no rows.
    """

    def __init__(self, path: Path | None = None, top_k: int = 5) -> None:
        self.path = path
        self.top_k = top_k
        self._beside: Path | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file before the work, not after it."""
        self._rows: Rows | None = None
        self._target = self.path or Path(trainer.log_dir or trainer.default_root_dir) / "predictions.csv"
        self._beside = self._target.with_name(f"{self._target.name}.tmp")
        if trainer.is_global_zero:
            try:
                if self._target.is_dir():
                    raise UserError(f"output: {str(self._target)!r} is a folder; write the name of a file.")
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._beside.touch()
            except OSError as error:
                raise self._refusal(error) from error

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is written of a batch."""
        if self._rows is None:
            if "index" not in getattr(outputs, "_fields", ()):
                raise UserError(
                    f"predict: {type(pl_module).__name__}.predict_step gives {type(outputs).__name__}; to be written "
                    "it must be a NamedTuple of tensors, one row a sample, with a field index, the samples' numbers."
                )
            self._rows = ROWS.get(type(outputs), FieldRows)(self.top_k)
            self._rows.begin(trainer, pl_module, self._target)
        self._rows.add(outputs)
        self._rows.illustrate(outputs, batch)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file on rank 0 and say where."""
        if self._rows is None:
            return
        self._rows.gather(pl_module)
        if not trainer.is_global_zero:
            return
        columns, rows = self._rows.columns(), list(self._rows.rows(pl_module))
        wrong = [index for index, fields in rows if fields is None]
        reasons = unreadable(trainer, wrong)
        lines = [["path", *columns, "error"]]
        for index, fields in rows:
            reason = "" if fields is not None else reasons.get(index, "unreadable")
            lines.append([sample_name(trainer, index), *(fields or [""] * len(columns)), reason])
        self._write(lines)
        print(f"predictions  {self._target}  ({len(rows)} rows, {len(wrong)} unreadable)", flush=True)
        self._rows.finish()

    def _write(self, lines: list[list[str]]) -> None:
        assert self._beside is not None
        try:
            with open(self._beside, "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
            os.replace(self._beside, self._target)
        except OSError as error:
            raise self._refusal(error) from error

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no half-written file."""
        if self._beside is not None and trainer.is_global_zero:
            with contextlib.suppress(OSError):
                self._beside.unlink(missing_ok=True)

    def _refusal(self, error: OSError) -> UserError:
        reason = error.strerror or type(error).__name__
        return UserError(f"output: cannot write {str(self._target)!r} ({reason}); name a file that can be written.")
