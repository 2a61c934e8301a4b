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


class Region(NamedTuple):
    """An annotated object."""

    label: int
    """Class number; `IGNORED_BYTE` for a crowd, whose outline stands around more than its objects."""
    area: float
    segmentation: list[Any] | dict[str, Any]
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
        sizes = {image.image_id: image.size for image in images}
        number = {name: place for place, name in enumerate(class_names, start=1)}
        label = {key: number[name] for key, name in self.categories.items() if name in number}
        found: dict[Any, list[Region]] = {}
        seen: set[Any] = set()
        for record in self._annotations:
            key, image = record.get("id"), record.get("image_id")
            if record.get("category_id") not in label or image not in sizes or (key is not None and key in seen):
                continue
            seen.add(key)
            shape: Any = record.get("segmentation")
            if not _is_region(shape):
                self.findings.add(Finding.NO_REGION, f"annotation {record.get('id')}")
                continue
            area = record.get("area")
            if not isinstance(area, int | float) or not math.isfinite(area) or area <= 0:
                area = region_pixels(shape, sizes[image]).sum()  # what lies in front must not depend on who exported it
            crowd = bool(record.get("iscrowd", 0))
            region = Region(IGNORED_BYTE if crowd else label[record["category_id"]], float(area), shape)
            found.setdefault(image, []).append(region)
        return images, [found.get(image.image_id, []) for image in images]


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
            UserError: Run lengths of another size than the image.
        """
        mask = np.zeros(self.images[sample].size, dtype=np.uint8)
        for region in self.regions[sample]:
            inside = region_pixels(region.segmentation, mask.shape)
            if inside.shape != mask.shape:
                raise UserError(
                    f"data: {self.name(sample)!r} has {list(mask.shape)} pixels (height, width), and an annotation's "
                    f"run lengths are of {list(inside.shape)}; mend the annotation."
                )
            mask[inside] = region.label
        return mask

    def name(self, sample: int) -> str:
        """The image's path."""
        return str(self.images[sample].path)


def region_pixels(segmentation: list[Any] | dict[str, Any], size: tuple[int, ...]) -> np.ndarray:
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


def _is_region(shape: Any) -> bool:
    if isinstance(shape, Mapping):
        return "counts" in shape and len(shape.get("size", [])) == 2
    return isinstance(shape, list) and bool(shape) and all(isinstance(p, list) and len(p) >= 6 for p in shape)


def _coco_mask() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise UserError(
            "data: COCO's polygons and run lengths need the package faster-coco-eval, which is not installed; write "
            'python -m pip install -e ".[detection]".'
        ) from error
    return mask
