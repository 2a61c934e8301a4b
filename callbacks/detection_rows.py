"""Detections as rows, as COCO's JSON of results, and drawn into the images."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import PIL.Image
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer

from callbacks.detection_media import boxes_and_texts, pair_of
from callbacks.drawn_boxes import drawn_boxes
from callbacks.prediction_rows import Rows, file_stem, gather_rows, sample_name, unreadable
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, DetectionBatch, Detections
from toolkit.vision.object_detection import ObjectDetection

DRAWN_SCORE = 0.3
"""Detections with a lower score are written but not drawn."""


@runtime_checkable
class NumberedImages(Protocol):
    """A DataModule whose annotation files number the images."""

    def image_id(self, index: int) -> int | str:
        """What the annotation file calls an image of the prediction set."""


class DetectionRows(Rows):
    """A row a detection, and one of empty fields for an image without any.

    Beside the CSV lie a JSON of its name in COCO's format of results, with the annotation file's ids of categories and,
    of a DataModule's own images, of images; and a folder of its name and ``_drawn`` with the images as the network sees
    them and their boxes.

    Args:
        top_k: Not used.
    """

    def __init__(self, top_k: int) -> None:
        self._batches: list[Detections] = []

    def begin(self, trainer: Trainer, pl_module: LightningModule, target: Path) -> None:
        """Make the folder of the drawn images."""
        assert isinstance(pl_module, ObjectDetection)
        if target.suffix == ".json":
            raise UserError(f"output: {str(target)!r} is the CSV, beside which a .json is written; name it .csv.")
        self._trainer, self._task, self._target = trainer, pl_module, target
        self._folder = target.with_name(f"{target.stem}_drawn")
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, prediction: Detections) -> None:
        """Keep it all."""
        self._batches.append(Detections(*(field.cpu() for field in prediction)))

    def illustrate(self, prediction: Detections, batch: DetectionBatch) -> None:
        """Draw the images of a batch."""
        for row, index in enumerate(batch.index.tolist()):
            pair = pair_of(prediction, batch, row)
            shown = (pair.label != IGNORE_LABEL) & (pair.score >= DRAWN_SCORE)
            picture = drawn_boxes(pair.image, *boxes_and_texts(pair, shown, self._task.class_names))
            PIL.Image.fromarray(picture).save(self._folder / f"{file_stem(self._trainer, index)}.jpg", quality=92)

    def gather(self, pl_module: LightningModule) -> None:
        """Bring the ranks' detections together, sorted by image and score; all images with as many as the most."""
        most = gather_rows(pl_module, torch.tensor([max(batch.label.shape[1] for batch in self._batches)]))
        padded = []
        for batch in self._batches:
            more = int(most.max()) - batch.label.shape[1]
            box = F.pad(batch.box, (0, 0, 0, more))
            label = F.pad(batch.label, (0, more), value=IGNORE_LABEL)
            padded.append((box, F.pad(batch.score, (0, more)), label, batch.index))
        parts = [gather_rows(pl_module, torch.cat(part)) for part in zip(*padded, strict=True)]
        order = parts[3].argsort()
        self._kept = Detections(*(part[order] for part in parts))

    def columns(self) -> list[str]:
        """Class, score and corners."""
        return ["class", "score", "left", "top", "right", "bottom"]

    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """The detections, image by image."""
        found = self._by_image()
        wrong = set(unreadable(self._trainer, [index for index, detections in found if not detections]))
        for index, detections in found:
            if index in wrong:
                yield index, None
            elif not detections:
                yield index, [""] * len(self.columns())
            for label, score, box in detections:
                yield index, [self._task.class_names[label], f"{score:.6g}", *(f"{side:.2f}" for side in box)]

    def finish(self) -> None:
        """Write the JSON."""
        records = [
            self._record(index, *detection) for index, detections in self._by_image() for detection in detections
        ]
        beside = self._target.with_name(f"{self._target.stem}.json.tmp")
        beside.write_text(json.dumps(records))
        os.replace(beside, self._target.with_suffix(".json"))
        print(f"detections   {self._target.with_suffix('.json')} (COCO's format), drawn in {self._folder}", flush=True)

    def _record(self, index: int, label: int, score: float, box: list[float]) -> dict[str, Any]:
        left, top, right, bottom = box
        data = getattr(self._trainer, "datamodule", None)
        return {
            "image_id": data.image_id(index) if isinstance(data, NumberedImages) else index,
            "file_name": Path(sample_name(self._trainer, index)).name,
            "category_id": self._task.category_ids[label],
            "bbox": [round(side, 3) for side in (left, top, right - left, bottom - top)],
            "score": round(score, 6),
        }

    def _by_image(self) -> list[tuple[int, list[tuple[int, float, list[float]]]]]:
        """Sample number, and label, score and box of each detection."""
        images = zip(*(field.tolist() for field in self._kept), strict=True)
        return [
            (index, [found for found in zip(labels, scores, boxes, strict=True) if found[0] != IGNORE_LABEL])
            for boxes, scores, labels, index in images
        ]
