"""Pascal VOC's XML files of boxes (Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch

from datamodules.annotated_images import AnnotatedImage
from datamodules.annotation_findings import Box, Finding, Findings
from datamodules.fitted_reader import upright_size


class VocObject(NamedTuple):
    """One object of a file."""

    name: str
    """Of its class."""
    corners: list[float | None]
    """xmin, ymin, xmax, ymax as written: numbers of the first and last pixels, counted from 1."""
    difficult: bool
    """Whether VOC leaves it out of the score."""


class VocFile(NamedTuple):
    """What one XML file says."""

    file_name: str
    """Of the image; often wrong."""
    size: tuple[int, int] | None
    """Height and width."""
    objects: list[VocObject]
    """In the order of the file."""


def read_voc_file(path: Path) -> VocFile | None:
    """Read a file; None if it is not there or no XML."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    height, width = _number(root.findtext("size/height")), _number(root.findtext("size/width"))
    objects = [
        VocObject(
            (item.findtext("name") or "").strip(),
            [_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")],
            bool(_number(item.findtext("difficult"))),
        )
        for item in root.iter("object")
    ]
    return VocFile(root.findtext("filename") or "", (int(height), int(width)) if height and width else None, objects)


def annotated_images(
    names: Iterable[str],
    files: Mapping[str, VocFile | None],
    folder: Path,
    stored: Mapping[str, Path],
    class_names: list[str],
    findings: Findings,
) -> list[AnnotatedImage]:
    """The images of a list that are there, with their valid boxes.

    Args:
        names: Of XML files and images, without endings.
        files: The XML files, read.
        folder: The folder of the images.
        stored: Its images by name without ending.
        class_names: Class number by position.
        findings: Where mistakes are noted.
    """
    number = {name: place for place, name in enumerate(class_names)}
    images = []
    for place, name in enumerate(names):
        file = files[name]
        if file is None:
            findings.add(Finding.NO_ANNOTATION, name)
            continue
        path = stored.get(name) or stored.get(Path(file.file_name).stem)
        if path is None:
            findings.add(Finding.MISSING, str(folder / name))
            continue
        size = file.size or upright_size(path)
        if size is None:
            findings.add(Finding.NO_SIZE, path.name)
            continue
        images.append(_annotated(path, place, size, file.objects, number, findings))
    return images


def _annotated(
    path: Path,
    place: int,
    size: tuple[int, int],
    objects: Iterable[VocObject],
    number: Mapping[str, int],
    findings: Findings,
) -> AnnotatedImage:
    boxes: list[Box] = []
    labels, difficult = [], []
    for item in objects:
        if item.name not in number:
            findings.add(Finding.CATEGORY, f"{path.name} [{item.name}]")
            continue
        if (box := findings.box(item.corners, size, path.name)) is None:
            continue
        # The first pixel has the number 1 and belongs to the box: its edge lies before it.
        boxes.append((max(box[0] - 1, 0.0), max(box[1] - 1, 0.0), box[2], box[3]))
        labels.append(number[item.name])
        difficult.append(item.difficult)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return AnnotatedImage(
        path,
        size,
        corners,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(difficult, dtype=torch.bool),
        (corners[:, 2:] - corners[:, :2]).prod(dim=1),
        place,
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
