"""COCO's JSON of boxes (cocodataset.org/#format-data), read as it is: gaps in ids, crowds, images without objects."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from datamodules.annotated_images import AnnotatedImage
from datamodules.annotation_findings import Box, Finding, Findings
from datamodules.fitted_reader import upright_size
from datamodules.image_reader import existing
from toolkit.errors import UserError
from toolkit.types import Stage


class CocoAnnotations:
    """One annotation file, its parts checked to be there.

    Args:
        path: The JSON.
        images: The folder that its file names are relative to.

    Raises:
        UserError: It is no COCO JSON.
    """

    def __init__(self, path: Path, images: Path) -> None:
        self.path = path
        self.folder = images
        self.findings = Findings(path.name)
        document = _read(path)
        self._images: list[dict[str, Any]] = document["images"]
        self._annotations: list[dict[str, Any]] = document["annotations"]
        self.categories = _category_names(document["categories"])
        self.records: dict[Any, list[dict[str, Any]]] = {}
        """Annotations by image; empty until they are read."""

    @classmethod
    def of_split(cls, stage: Stage, annotations: str, images: str) -> Self:
        """Those of the arguments ``data.init_args.<stage>``.

        Raises:
            UserError: A file or folder is missing, or no COCO JSON.
        """
        option = f"data.init_args.{stage}"
        return cls(existing(annotations, f"{option}.annotations"), existing(images, f"{option}.images"))

    def chosen(self, class_names: Sequence[str] | None, most: int | None = None) -> list[str]:
        """The names of the categories that are asked for; all of them if None.

        Args:
            class_names: What is asked for.
            most: How many there may be.

        Raises:
            UserError: Unknown names, a name twice, none, or too many.
        """
        known = list(self.categories.values())
        names = known if class_names is None else list(class_names)
        if unknown := [name for name in names if name not in known]:
            raise UserError(
                f"data.init_args.class_names: {self.path.name} has no category {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(known[:20])}{', ...' if len(known) > 20 else ''}."
            )
        if not names or len(set(names)) < len(names) or (most is not None and len(names) > most):
            limit = "one or more" if most is None else f"1 to {most}"
            raise UserError(f"data.init_args.class_names: need {limit} different names, got {len(names)}: {names[:5]}.")
        return names

    def read(self, class_names: Sequence[str], ignore_others: bool, reads_boxes: bool = True) -> list[AnnotatedImage]:
        """The images whose file is there, in the order of the JSON, with their valid boxes.

        Args:
            class_names: Class number by position.
            ignore_others: Whether the file may have further categories, which are then left out without a word.
            reads_boxes: Whether boxes are read and judged; all are empty if not.
        """
        number = {name: place for place, name in enumerate(class_names)}
        label = {key: number[name] for key, name in self.categories.items() if name in number}
        left_out = set(self.categories) - set(label) if ignore_others else set()
        known = list(self.categories.values())
        for name in class_names if ignore_others else ():
            if name in known:
                continue
            close = difflib.get_close_matches(name, known, n=1)
            self.findings.add(Finding.NO_CATEGORY, f"{name}; did you mean {close[0]}?" if close else name)
        records = self.records = self._by_image(left_out, "bbox" if reads_boxes else "segmentation")
        files = _Files(self.folder)
        images, seen = [], set()
        for image in self._images:
            name, key = str(image["file_name"]), image["id"]
            if key in seen:
                self.findings.add(Finding.SAME_IMAGE_ID, f"{name} [{key}]")
                continue
            seen.add(key)
            if not files.exists(name):
                self.findings.add(Finding.MISSING, name)
                continue
            size = _size(image, self.folder / name)
            if size is None:
                self.findings.add(Finding.NO_SIZE, name)
                continue
            images.append(self._annotated(name, key, size, records.get(key, []), label, reads_boxes))
        for key in sorted(set(records) - seen, key=str):
            for record in records[key]:
                self.findings.add(Finding.UNKNOWN_IMAGE, f"annotation {record.get('id')} of image {key}")
        return images

    def _by_image(self, left_out: set[Any], shape: str) -> dict[Any, list[dict[str, Any]]]:
        """Annotations by image, without those of some categories and without exact repetitions.

        Args:
            left_out: The categories.
            shape: Key of what is read of an annotation.
        """
        records: dict[Any, list[dict[str, Any]]] = {}
        first: dict[Any, dict[str, Any]] = {}
        for record in self._annotations:
            key = record.get("id")
            known = first.setdefault(key, record) if key is not None else record
            if known is not record:
                repeated = all(known.get(name) == record.get(name) for name in ("image_id", "category_id", shape))
                self.findings.add(Finding.REPEATED if repeated else Finding.SAME_ID, f"annotation {key}")
                if repeated:
                    continue
            if record.get("category_id") not in left_out:
                records.setdefault(record.get("image_id"), []).append(record)
        return records

    def _annotated(
        self,
        name: str,
        key: Any,
        size: tuple[int, int],
        records: Sequence[Mapping[str, Any]],
        label: Mapping[Any, int],
        reads_boxes: bool,
    ) -> AnnotatedImage:
        boxes: list[Box] = []
        labels, crowds, areas = [], [], []
        for record in records:
            if record.get("category_id") not in label:
                self.findings.add(Finding.CATEGORY, f"{name} [category {record.get('category_id')}]")
                continue
            none = (0.0, 0.0, 0.0, 0.0)
            box = self.findings.box(_corners(record.get("bbox")), size, name) if reads_boxes else none
            if box is None:
                continue
            boxes.append(box)
            labels.append(label[record["category_id"]])
            crowds.append(bool(record.get("iscrowd", 0)))
            area = record.get("area")
            own = _float(area) if isinstance(area, int | float) else 0.0
            areas.append(own if 0 < own < math.inf else (box[2] - box[0]) * (box[3] - box[1]))
        return AnnotatedImage(
            self.folder / name,
            size,
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(crowds, dtype=torch.bool),
            torch.tensor(areas, dtype=torch.float32),
            key,
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"data: cannot read {str(path)!r} as JSON ({error}).") from error
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(document, dict) or not isinstance(document.get(part), list)]
    if missing:
        found = ", ".join(document) if isinstance(document, dict) else type(document).__name__
        raise UserError(
            f"data: {str(path)!r} is no COCO annotation file: it needs lists named images, annotations and categories, "
            f"and lacks {', '.join(missing)}; it has {found or 'nothing'}."
        )
    for part, names in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        for record in document[part]:
            if not isinstance(record, dict) or any(name not in record for name in names):
                raise UserError(f"data: {str(path)!r}: each of its {part} needs {' and '.join(names)}, got {record}.")
            _read_ids(path, part, record, ("id",))
    for record in document["annotations"]:
        if not isinstance(record, dict):
            raise UserError(
                f"data: {str(path)!r}: each of its annotations is an object such as "
                f'{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, width, height]}}, got {record!r:.80}.'
            )
        _read_ids(path, "annotations", record, ("id", "image_id", "category_id"))
    return document  # type: ignore[no-any-return]


def _read_ids(path: Path, part: str, record: dict[str, Any], names: Sequence[str]) -> None:
    """Make numbers of what stands for one, and refuse what is neither a number nor a text."""
    for name in names:
        value = record.get(name)
        if isinstance(value, float) and value.is_integer():  # 3.0, as a table with gaps writes it, is 3
            record[name] = int(value)
        elif not isinstance(value, int | str | None):
            raise UserError(
                f"data: {str(path)!r}: {name} of one of its {part} is {value!r:.40}; write a whole number, or a "
                "text in quotes."
            )


def _category_names(categories: Iterable[Mapping[str, Any]]) -> dict[Any, str]:
    """Name by id, in the order of the ids; a name that comes twice is told apart by its id."""
    records = sorted(categories, key=lambda record: (str(type(record["id"])), record["id"]))
    names: dict[Any, str] = {}
    for record in records:
        name = str(record["name"])
        names[record["id"]] = f"{name} {record['id']}" if name in names.values() else name
    return names


def _corners(bbox: Any) -> list[Any]:
    """COCO's (left, top, width, height) as (left, top, right, bottom)."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        return bbox if isinstance(bbox, list) else []
    left, top, width, height = map(_float, bbox)
    return [left, top, left + width, top + height]


def _float(value: float) -> float:
    """Infinity for a whole number of hundreds of digits, which a float cannot hold."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _size(image: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """Height and width as annotated, else from the head of the file."""
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return upright_size(path)


class _Files:
    """Which files a folder has: asked once for each folder, for a question a file takes long on a network's disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[Path, set[str]] = {}

    def exists(self, name: str) -> bool:
        path = self.folder / name
        if path.parent not in self._names:
            self._names[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        return path.name in self._names[path.parent]
