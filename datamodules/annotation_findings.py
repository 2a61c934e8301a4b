"""What is wrong with annotations of boxes: found while they are read, told once, with counts and file names."""

import math
from array import array
from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from toolkit.errors import UserError

OnInvalid = Literal["drop", "stop"]
NAMED = 3
"""Files named for each kind of finding."""
TOLERANCE = 1.0
"""Pixels by which a box may leave its image without a word: the rounding of annotation tools."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


class Finding(Enum):
    """A kind of mistake, and what is done about it if the run goes on."""

    MALFORMED = "annotations whose box is not four finite numbers", "dropped"
    DEGENERATE = "degenerate boxes, of no width or height", "dropped"
    OUTSIDE = "boxes wholly outside of their image", "dropped"
    BEYOND = "boxes that reach beyond their image", "clipped"
    NO_REGION = "annotations without valid polygons or run lengths", "dropped"
    SHORT_RING = "polygons of fewer than three points", "dropped"
    CATEGORY = "annotations of an unknown category", "dropped"
    NO_CATEGORY = "names of class_names that no category has", "without an object"
    UNKNOWN_IMAGE = "annotations of an unknown image", "dropped"
    REPEATED = "annotations given twice", "dropped"
    SAME_ID = "annotations with the id of another one", "kept"
    SAME_IMAGE_ID = "images with the id of another one", "dropped"
    MISSING = "images whose file is missing", "dropped"
    NO_SIZE = "images whose size is neither annotated nor to be read", "dropped"
    NO_ANNOTATION = "images without a readable annotation file", "dropped"

    @property
    def text(self) -> str:
        """What it is."""
        return self.value[0]

    @property
    def remedy(self) -> str:
        """What is done about it."""
        return self.value[1]


class Findings:
    """All that is wrong with one annotation file or folder.

    Args:
        source: Its name.

    >>> findings = Findings("train.json")
    >>> findings.box((3.0, 4.0, 3.0, 9.0), (10, 10), "a.jpg")
    >>> findings.lines()
    ['train.json: degenerate boxes, of no width or height: 1 dropped (a.jpg [3, 4, 3, 9])']
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.of: dict[Finding, list[str]] = {}

    def add(self, finding: Finding, name: str) -> None:
        """Note a mistake; ``name`` says where."""
        self.of.setdefault(finding, []).append(name)

    def box(self, corners: Sequence[Any], size: tuple[int, int], name: str) -> Box | None:
        """A box within an image of ``size`` (height, width); None if there is nothing left of it."""
        fault = _fault(corners, size)
        if fault is not None:
            numbers = ", ".join(f"{value:g}" if isinstance(value, int | float) else repr(value) for value in corners)
            self.add(fault, f"{name} [{numbers}]")
        if fault not in (None, Finding.BEYOND):
            return None
        left, top, right, bottom = (float(value) for value in corners)
        return max(left, 0.0), max(top, 0.0), min(right, float(size[1])), min(bottom, float(size[0]))

    def lines(self) -> list[str]:
        """One for each kind, with the number and the first names."""
        return [
            f"{self.source}: {finding.text}: {len(names)} {finding.remedy} ({', '.join(names[:NAMED])}"
            f"{', ...' if len(names) > NAMED else ''})"
            for finding, names in self.of.items()
        ]

    def tell(self, on_invalid: OnInvalid) -> None:
        """Say it.

        Raises:
            UserError: Something is wrong and the run shall not go on then.
        """
        if self.of and on_invalid == "stop":
            found = "\n".join(self.lines())
            raise UserError(f"data: {found}\nMend the annotations, or write data.init_args.on_invalid: drop.")
        for line in self.lines():
            rank_zero_warn(f"data: {line}")


def _fault(corners: Sequence[Any], size: tuple[int, int]) -> Finding | None:
    """What is wrong with a box in an image of ``size`` (height, width)."""
    if len(corners) != 4 or not all(isinstance(value, int | float) and math.isfinite(value) for value in corners):
        return Finding.MALFORMED
    left, top, right, bottom = array("f", corners)  # rounded as the boxes that the networks get
    height, width = size
    if right <= left or bottom <= top:
        return Finding.DEGENERATE
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return Finding.OUTSIDE
    return Finding.BEYOND if max(-left, -top, right - width, bottom - height) > TOLERANCE else None
