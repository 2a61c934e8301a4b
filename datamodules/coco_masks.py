"""Masks of classes from the polygons and run lengths of COCO's JSON. Shape legend: h and w of a file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from datamodules.annotated_images import AnnotatedImage
from datamodules.annotation_findings import Finding
from datamodules.coco_annotations import CocoAnnotations
from datamodules.mask_files import MaskSource
from datamodules.segmentation import IGNORED_BYTE
from toolkit.errors import UserError

Segmentation = list[Any] | dict[str, Any]
FARTHEST = 100
"""Sides of its image by which a polygon may leave it: drawing takes memory for each pixel of its outline."""


class Region(NamedTuple):
    """An annotated object."""

    label: int
    """Class number; `IGNORED_BYTE` for a crowd, whose outline stands around more than its objects."""
    area: float
    segmentation: Segmentation
    """Polygons ``[[x, y, x, y, ...], ...]``, or run lengths ``{"counts": ..., "size": [h, w]}``."""


class CocoRegions(CocoAnnotations):
    """One annotation file, read for its segmentations."""

    def regions(
        self, class_names: Sequence[str], ignore_others: bool
    ) -> tuple[list[AnnotatedImage], list[list[Region]]]:
        """The images whose file is there, and the regions of each; class 0 is what is in none.

        Args:
            class_names: Of the classes from 1 on.
            ignore_others: Whether the file may have further categories, which are then background without a word.
        """
        images = self.read(class_names, ignore_others, reads_boxes=False)
        number = {name: place for place, name in enumerate(class_names, start=1)}
        label = {key: number[name] for key, name in self.categories.items() if name in number}
        return images, [
            [
                self._region(shape, record, label[record["category_id"]], image)
                for record in self.records.get(image.image_id, [])
                if record.get("category_id") in label and (shape := self._shape(record, image)) is not None
            ]
            for image in images
        ]

    def _shape(self, record: Mapping[str, Any], image: AnnotatedImage) -> Segmentation | None:
        """The valid part of a segmentation; None if there is none."""
        shape: Any = record.get("segmentation")
        name = f"annotation {record.get('id')} of {image.path.name}"
        if isinstance(shape, dict) and _is_run_lengths(shape):
            return shape
        if isinstance(shape, list) and all(_is_ring(ring, image.size) for ring in shape):
            rings = [ring for ring in shape if len(ring) >= 6]
            if rings:
                if len(rings) < len(shape):
                    self.findings.add(Finding.SHORT_RING, name)
                return rings
        self.findings.add(Finding.NO_REGION, name)
        return None

    def _region(self, shape: Segmentation, record: Mapping[str, Any], label: int, image: AnnotatedImage) -> Region:
        area = record.get("area")
        if not isinstance(area, int | float) or not math.isfinite(area) or area <= 0:
            # what lies in front must not depend on who exported it
            area = _drawn(shape, image.size, str(image.path)).sum()
        return Region(IGNORED_BYTE if record.get("iscrowd", 0) else label, float(area), shape)


class CocoMasks(MaskSource):
    """Draws the regions of an image: crowds first, then the larger objects, so that the smaller stay whole.

    Args:
        images: N images.
        regions: Of each.

    Raises:
        UserError: The package that reads run lengths is missing.
    """

    def __init__(self, images: Sequence[AnnotatedImage], regions: Sequence[Sequence[Region]]) -> None:
        _coco_mask()
        self.images = images
        self.regions = [sorted(some, key=lambda r: (r.label != IGNORED_BYTE, -r.area)) for some in regions]

    def __call__(self, sample: int) -> np.ndarray:
        """Draw.

        Raises:
            UserError: Run lengths of another size than the image, or broken ones.
        """
        mask = np.zeros(self.images[sample].size, dtype=np.uint8)
        for region in self.regions[sample]:
            mask[_drawn(region.segmentation, mask.shape, self.name(sample))] = region.label
        return mask

    def name(self, sample: int) -> str:
        """The image's path."""
        return str(self.images[sample].path)


def region_pixels(segmentation: Segmentation, size: tuple[int, ...]) -> np.ndarray:
    """Which pixels a region covers, as COCO's own code draws them: ``(h, w)``, bool."""
    coco_mask = _coco_mask()
    height, width = size
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(dict(segmentation), *segmentation["size"])
    else:
        runs = segmentation
    pixels: np.ndarray = np.asarray(coco_mask.decode(runs))
    return pixels.astype(bool)


def _drawn(segmentation: Segmentation, size: tuple[int, ...], name: str) -> np.ndarray:
    """As `region_pixels`.

    Raises:
        UserError: Run lengths of another size than the image, or broken ones.
    """
    if isinstance(segmentation, dict) and tuple(segmentation["size"]) != size:
        raise UserError(
            f"data: {name!r} has {list(size)} pixels (height, width), and an annotation's run lengths are of "
            f"{segmentation['size']}; mend the annotation."
        )
    try:
        return region_pixels(segmentation, size)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"data: the polygons or run lengths of an annotation of {name!r} cannot be drawn ({reason:.120}); mend or "
            "remove the annotation."
        ) from error


def _is_run_lengths(shape: Mapping[str, Any]) -> bool:
    """Whether the numbers are whole and fill the size; text is judged when it is drawn."""
    counts, size = shape.get("counts"), shape.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return False
    if isinstance(counts, list):
        return all(isinstance(count, int) and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
    return isinstance(counts, str)


def _is_ring(ring: Any, size: tuple[int, int]) -> bool:
    """Whether these are pairs of numbers, none of them NaN or far from an image of ``size``."""
    farthest = FARTHEST * max(size)
    return (
        isinstance(ring, list)
        and len(ring) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) <= farthest for value in ring)
    )


def _coco_mask() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise UserError(
            "data: COCO's polygons and run lengths need the package faster-coco-eval, which is not installed; write "
            'python -m pip install -e ".[detection]".'
        ) from error
    return mask
