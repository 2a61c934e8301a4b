"""Small sets of images with boxes, on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VOC = """<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height></size>
{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>
<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def save_image(path: Path, height: int = 20, width: int = 40, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def coco(root: Path, count: int = 12, name: str = "a.json", **parts: Any) -> dict[str, Any]:
    """A valid annotation file and its images; ``parts`` replace or extend what is written.

    Image i has i % 3 boxes: the first of category 7, the second of category 3 and a crowd.
    """
    images, annotations = [], []
    for i in range(count):
        save_image(root / "images" / f"{i}.png", seed=i)
        images.append({"id": 100 + 10 * i, "file_name": f"{i}.png", "height": 20, "width": 40})
        for j in range(i % 3):
            box = {"bbox": [2 + i, 4, 10, 8], "category_id": 7 - 4 * j, "iscrowd": j, "area": 50}
            annotations.append({"id": 1000 * i + j, "image_id": 100 + 10 * i, **box})
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    document = {"images": images, "annotations": annotations, "categories": categories} | parts
    (root / name).write_text(json.dumps(document))
    return document


def voc(
    root: Path, lists: dict[str, Sequence[str]], **objects: Sequence[tuple[str, int, tuple[int, int, int, int]]]
) -> None:
    """A folder in VOC's layout: (name, difficult, (xmin, ymin, xmax, ymax)) of each image's objects."""
    (root / "Annotations").mkdir(parents=True)
    for seed, (name, found) in enumerate(objects.items()):
        save_image(root / "JPEGImages" / f"{name}.png", seed=seed)
        texts = [OBJECT.format(name=kind, difficult=difficult, box=box) for kind, difficult, box in found]
        text = VOC.format(name="wrong", width=40, height=20, objects="".join(texts))
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for stage, names in lists.items():
        path = root / "ImageSets" / "Main" / f"{stage}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))
