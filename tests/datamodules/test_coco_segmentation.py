import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference

from datamodules.coco_detection import CocoFiles
from datamodules.coco_masks import region_pixels
from datamodules.coco_segmentation import CocoSegmentationDataModule
from datamodules.sampler import BatchIndex
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL

LARGE = [2, 2, 22, 2, 22, 16, 2, 16]
SMALL = [10, 6, 30, 6, 30, 10, 10, 10]
CROWD = {"counts": [0, 20 * 8, 20 * 32], "size": [20, 40]}  # the eight columns on the left


def coco(root: Path, annotations: list[dict[str, Any]] | None = None, count: int = 5) -> None:
    """Five images of which the first has a dog, a smaller cat before it, and a crowd of cats behind both."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        images.append({"id": 7 * i, "file_name": f"{i}.png", "height": 20, "width": 40})
    base = {"image_id": 0, "bbox": [2, 2, 20, 14], "iscrowd": 0}
    annotations = annotations or [
        base | {"id": 1, "category_id": 3, "segmentation": [SMALL], "area": 80},
        base | {"id": 2, "category_id": 9, "segmentation": [LARGE], "area": 280},
        base | {"id": 3, "category_id": 3, "segmentation": CROWD, "area": 999, "iscrowd": 1},
    ]
    categories = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "a.json").write_text(json.dumps(document))


def module(root: Path, **options: Any) -> CocoSegmentationDataModule:
    files = CocoFiles(str(root / "a.json"), str(root / "images"))
    given = {"image_size": (20, 40), "batch_size": 2, "val_size": 1, "test_size": 1, "split_seed": 1}
    return CocoSegmentationDataModule(files, **given | options)


def first(data: CocoSegmentationDataModule) -> torch.Tensor:
    """The mask of the image that has objects, wherever it is."""
    stage, place = next(
        (stage, i)
        for stage in ("train", "val", "test")
        for i in range(len(data.dataset(stage)))
        if data._files[stage].paths[i].name == "0.png"
    )
    return data.dataset(stage)[BatchIndex(0, torch.tensor([place]))].mask[0]  # type: ignore[arg-type]


def test_smaller_objects_lie_in_front_and_crowds_behind(tmp_path: Path) -> None:
    coco(tmp_path)
    data = module(tmp_path)
    assert list(data.class_names) == ["background", "cat", "dog"]  # by the ids
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [3, 1, 1]
    mask = first(data)
    assert mask[7, 12] == 1
    assert mask[7, 5] == mask[14, 20] == 2
    assert mask[18, 3] == IGNORE_LABEL
    assert mask[18, 30] == 0


def test_neither_area_nor_box_is_needed(tmp_path: Path) -> None:
    """Which object lies in front is measured where nobody says it, and what is given twice is drawn once."""
    base: dict[str, Any] = {"image_id": 0, "iscrowd": 0}
    small, large = (
        base | {"category_id": 3, "segmentation": [SMALL]},
        base | {"category_id": 9, "segmentation": [LARGE]},
    )
    coco(tmp_path, [small | {"id": 1}, large | {"id": 2, "area": 0}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = first(module(tmp_path, on_invalid="stop"))
    assert mask[7, 12] == 1
    assert mask[7, 5] == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("text", [LARGE, [1.5, 2.25, 30.75, 4.5, 17.0, 18.9], "runs", "counted runs"], ids=str)
def test_regions_are_drawn_as_by_coco_s_own_code(text: Any) -> None:
    if isinstance(text, list):
        found = region_pixels([text], (20, 40))
        runs = reference.merge(reference.frPyObjects([text], 20, 40))
    elif text == "runs":
        runs = reference.encode(np.asfortranarray(np.random.default_rng(0).integers(0, 2, (20, 40), dtype=np.uint8)))
        found = region_pixels(runs | {"counts": runs["counts"].decode()}, (20, 40))
    else:
        runs = reference.frPyObjects(CROWD, 20, 40)
        found = region_pixels(CROWD, (20, 40))
    assert np.array_equal(found, reference.decode(runs).astype(bool))


def test_some_classes_leave_the_others_as_background(tmp_path: Path) -> None:
    coco(tmp_path)
    mask = first(module(tmp_path, class_names=["dog"]))
    assert set(mask.unique().tolist()) == {0, 1}
    assert mask[7, 12] == 1  # the dog behind the cat that is not told apart
    with pytest.raises(UserError, match=r"a\.json has no category 'cow'; it has cat, dog"):
        module(tmp_path, class_names=["cow"])


def test_every_batch_is_the_same_in_memory(tmp_path: Path) -> None:
    coco(tmp_path)
    a, b = (list(module(tmp_path, in_memory=kept, image_size=16).train_dataloader()) for kept in (False, True))
    assert all(torch.equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "shape",
    [
        *(None, [], [[1, 2, 3]], [[1, 2, 3, 4]], [[*LARGE, 5]], [[*LARGE[:-1], "16"]], [LARGE, None]),
        *([[*LARGE[:-1], float("nan")]], [[*LARGE[:-1], 1e9]]),
        *({"size": [20, 40]}, {"size": "20x40", "counts": "0"}, {"size": ["20", "40"], "counts": [0, 800]}),
        *({"size": [20, 40], "counts": counts} for counts in ([0, 900], [0, 700], [0, -1, 801], [None, 800], None)),
    ],
    ids=str,
)
def test_objects_without_a_region_are_told(tmp_path: Path, shape: Any) -> None:
    record = {"id": 8, "image_id": 0, "category_id": 3, "bbox": [2, 2, 5, 5], "segmentation": shape, "area": 9}
    coco(tmp_path, [record])
    with pytest.warns(UserWarning, match="annotations without valid polygons or run lengths: 1 dropped"):
        data = module(tmp_path)
    assert not first(data).any()
    with pytest.raises(UserError, match="annotations without valid polygons or run lengths: 1"):
        module(tmp_path, on_invalid="stop")


def test_ids_that_start_again_at_each_image_lose_no_object(tmp_path: Path) -> None:
    records = [
        {"id": 1, "image_id": 7 * i, "category_id": 3, "segmentation": [LARGE], "bbox": [2, 2, 20, 14]}
        for i in range(5)
    ]
    coco(tmp_path, [*records, records[0]])
    with pytest.warns(UserWarning, match="with the id of another one: 4 kept|given twice: 1 dropped"):
        data = module(tmp_path, val_size=0, test_size=0)
    assert data.dataset("train").masks(torch.arange(5)).flatten(1).any(dim=1).all()  # type: ignore[attr-defined]
    assert [len(some) for some in data._files["train"].source.regions] == [1] * 5  # type: ignore[attr-defined]


def test_a_ring_of_two_points_takes_no_other_with_it(tmp_path: Path) -> None:
    coco(tmp_path, [{"id": 8, "image_id": 0, "category_id": 3, "segmentation": [[1, 1, 4, 4], LARGE], "area": 9}])
    with pytest.warns(UserWarning, match=r"fewer than three points: 1 dropped \(annotation 8 of 0\.png\)"):
        data = module(tmp_path)
    assert first(data)[7, 12] == 1


@pytest.mark.parametrize("area", [9, 0])
def test_broken_run_lengths_are_named(tmp_path: Path, area: int) -> None:
    runs = {"counts": "zzzz~~", "size": [20, 40]}
    coco(tmp_path, [{"id": 8, "image_id": 0, "category_id": 3, "segmentation": runs, "area": area}])
    with pytest.raises(UserError, match=r"annotation of '.*0\.png' cannot be drawn \(.*\); mend or remove"):
        first(module(tmp_path))


def test_another_folder_of_images_is_explained(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    files = CocoFiles(str(tmp_path / "a.json"), str(tmp_path / "elsewhere"))
    with (
        pytest.warns(UserWarning, match="images whose file is missing: 5 dropped"),
        pytest.raises(UserError, match=r"no image left to train on; see that data\.init_args\.train\.images"),
    ):
        CocoSegmentationDataModule(files)


def test_run_lengths_of_another_size_are_named(tmp_path: Path) -> None:
    runs = {"counts": [0, 100], "size": [10, 10]}
    record = {"id": 8, "image_id": 0, "category_id": 3, "bbox": [2, 2, 5, 5], "segmentation": runs, "area": 9}
    coco(tmp_path, [record])
    with pytest.raises(UserError, match=r"run lengths are of \[10, 10\]; mend the annotation"):
        first(module(tmp_path))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path)
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core", None)
    with pytest.raises(UserError, match=r'write python -m pip install -e "\.\[detection\]"'):
        module(tmp_path)


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    coco(tmp_path)
    data = module(tmp_path, val=CocoFiles(str(tmp_path / "a.json"), str(tmp_path / "images")))
    assert len(data.dataset("val")) == 5
    with pytest.raises(UserError, match=r"no images to test on; write data\.init_args\.test"):
        data.dataset("test")
