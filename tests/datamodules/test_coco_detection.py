import json
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.coco_detection import CocoDetectionDataModule, CocoFiles
from tests.datamodules.detection_data import coco, save_image
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, DetectionBatch


def module(root: Path, **options: Any) -> CocoDetectionDataModule:
    files = CocoFiles(str(root / "a.json"), str(root / "images"))
    splits: dict[str, Any] = {"train": files, "val": files, "test": files}
    return CocoDetectionDataModule(**{**splits, "image_size": 20, "batch_size": 12} | options)


def only_batch(data: CocoDetectionDataModule) -> DetectionBatch:
    (batch,) = data.test_dataloader()
    assert isinstance(batch, DetectionBatch)
    return batch


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    coco(tmp_path)
    data = module(tmp_path)
    assert data.class_names == ["cat", "dog"]
    assert data.category_ids == [3, 7]
    assert data.image_id(2) == 120
    assert data.sample_name(2) == str(tmp_path / "images" / "2.png")
    batch = only_batch(data)
    assert batch.image.shape == (12, 3, 20, 20)
    assert batch.size.tolist() == [[10, 20]] * 12  # 20x40 within 20x20
    assert batch.original_size.tolist() == [[20, 40]] * 12
    assert not batch.image[:, :, 10:].any()
    assert batch.label[:3].tolist() == [[IGNORE_LABEL, IGNORE_LABEL], [1, IGNORE_LABEL], [1, 0]]
    assert batch.box[2].tolist() == [[2, 2, 7, 6], [2, 2, 7, 6]]
    assert batch.box[0].tolist() == [[0] * 4] * 2
    assert batch.crowd[2].tolist() == [False, True]
    assert batch.area[2].tolist() == [50, 50]


def test_without_own_splits_images_are_held_out_seeded(tmp_path: Path) -> None:
    coco(tmp_path)
    options = {"val": None, "test": None, "val_size": 3, "test_size": 3}
    data, again, other = (module(tmp_path, **options, split_seed=seed) for seed in (0, 0, 1))
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [6, 3, 3]
    assert sorted(data.dataset("test").boxes.count.tolist()) == [0, 1, 2]  # one image of each kind
    names = [[m.sample_name(i) for i in range(3)] for m in (data, again, other)]
    assert names[0] == names[1] != names[2]
    data = module(tmp_path, test=None)
    with pytest.raises(UserError, match=r"no images to test on; write data\.init_args\.test: \{annotations"):
        data.test_dataloader()


def test_any_way_of_reading_gives_the_same_batches(tmp_path: Path) -> None:
    coco(tmp_path)
    ways: list[dict[str, Any]] = [{}, {"in_memory": True}, {"num_workers": 1}]
    batches = [list(module(tmp_path, **way, batch_size=5).train_dataloader()) for way in ways]
    assert len(batches[0]) == 2
    for a, *others in zip(*batches, strict=True):
        assert all(torch.equal(x, y) for other in others for x, y in zip(a, other, strict=True))


def test_a_class_is_known_by_its_name(tmp_path: Path) -> None:
    coco(tmp_path)
    document = json.loads((tmp_path / "a.json").read_text())
    for record in (*document["annotations"], *document["categories"]):
        key = "category_id" if "bbox" in record else "id"
        record[key] = {3: 50, 7: 1}[record[key]]
    (tmp_path / "b.json").write_text(json.dumps(document))
    data = module(tmp_path, test=CocoFiles(str(tmp_path / "b.json"), str(tmp_path / "images")))
    assert all(torch.equal(a, b) for a, b in zip(data.dataset("test").boxes, data.dataset("val").boxes, strict=True))
    assert data.category_ids == [3, 7]


def test_some_classes_in_an_order_of_one_s_own(tmp_path: Path) -> None:
    coco(tmp_path)
    assert module(tmp_path, class_names=["dog", "cat"]).category_ids == [7, 3]
    only = module(tmp_path, class_names=["dog"])
    assert only.dataset("train").boxes.label.bincount().tolist() == [8]
    assert len(only.dataset("train")) == 12
    with pytest.raises(UserError, match=r"a\.json has no category 'cow'; it has cat, dog"):
        module(tmp_path, class_names=["cow"])


def test_a_class_that_another_split_spells_otherwise_is_told(tmp_path: Path) -> None:
    document = coco(tmp_path)
    renamed = [{"id": 7, "name": "Dog"}, {"id": 3, "name": "cat"}]
    (tmp_path / "b.json").write_text(json.dumps(document | {"categories": renamed}))
    val = CocoFiles(str(tmp_path / "b.json"), str(tmp_path / "images"))
    text = "data: b.json: names of class_names that no category has: 1 without an object (dog; did you mean Dog?)"
    with pytest.warns(UserWarning, match="^data: b.json") as told:
        module(tmp_path, val=val, class_names=["dog"])
    assert [str(warning.message) for warning in told] == [text]


MISTAKES: dict[str, dict[str, Any]] = {
    "degenerate boxes, of no width or height: 1 dropped (0.png [3, 3, 3, 8])": {"bbox": [3, 3, 0, 5]},
    "boxes wholly outside of their image: 1 dropped (0.png [50, 3, 55, 8])": {"bbox": [50, 3, 5, 5]},
    "boxes that reach beyond their image: 1 clipped (0.png [30, 3, 55, 8])": {"bbox": [30, 3, 25, 5]},
    "annotations whose box is not four finite numbers: 1 dropped (0.png [])": {"bbox": None},
    "annotations of an unknown category: 1 dropped (0.png [category 9])": {"category_id": 9},
    "annotations of an unknown image: 1 dropped (annotation 1 of image 5)": {"image_id": 5},
    "annotations with the id of another one: 1 kept (annotation 1000)": {"id": 1000},
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_told_and_dropped_or_stopped_at(tmp_path: Path, text: str) -> None:
    valid: dict[str, Any] = {"id": 1, "image_id": 100, "category_id": 3, "bbox": [3, 3, 5, 5]}
    document = coco(tmp_path)
    coco(tmp_path, annotations=[*document["annotations"], valid | MISTAKES[text]])
    with pytest.warns(UserWarning, match="^data: a.json") as told:
        data = module(tmp_path, val=None, test=None, val_size=0, test_size=0)
    assert [str(warning.message) for warning in told] == [f"data: a.json: {text}"]
    assert len(data.dataset("train").boxes.label) == len(document["annotations"]) + ("dropped" not in text)
    with pytest.raises(UserError) as caught:
        module(tmp_path, on_invalid="stop")
    assert text in str(caught.value)


def test_images_that_are_missing_or_given_twice(tmp_path: Path) -> None:
    document = coco(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    coco_images = [*document["images"], document["images"][2]]
    (tmp_path / "a.json").write_text(json.dumps(document | {"images": coco_images}))
    with pytest.warns(UserWarning, match="^data: a.json") as told:
        data = module(tmp_path, val=None, test=None, val_size=0, test_size=0)
    texts = [str(warning.message) for warning in told]
    assert texts == [
        "data: a.json: images whose file is missing: 1 dropped (1.png)",
        "data: a.json: images with the id of another one: 1 dropped (2.png [120])",
    ]
    assert len(data.dataset("train")) == 11


def test_sizes_and_areas_may_be_missing(tmp_path: Path) -> None:
    document = coco(tmp_path)
    for record in (*document["images"], *document["annotations"]):
        for name in ("height", "width", "area", "iscrowd"):
            record.pop(name, None)
    (tmp_path / "a.json").write_text(json.dumps(document))
    batch = only_batch(module(tmp_path))
    assert batch.original_size[0].tolist() == [20, 40]
    assert batch.area[2].tolist() == [80, 80]
    assert not batch.crowd.any()


def test_a_smaller_copy_of_an_image_will_do_and_another_shape_not(tmp_path: Path) -> None:
    coco(tmp_path)
    save_image(tmp_path / "images" / "2.png", 10, 20)
    batch = only_batch(module(tmp_path))
    assert batch.box[2, 0].tolist() == [2, 2, 7, 6]
    save_image(tmp_path / "images" / "2.png", 30, 20)
    message = r"cannot use '.*2\.png': it has 20x30 pixels, and its annotation says 40x20"
    with pytest.raises(UserError, match=message):
        only_batch(module(tmp_path))
    with pytest.warns(UserWarning, match=message):
        batch = only_batch(module(tmp_path, on_unreadable="skip", in_memory=True))
    assert batch.label[2].tolist() == [IGNORE_LABEL] * 2
    assert not batch.box[2].any()
    assert not batch.image[2].any()


def test_unreadable_files_stop_or_count_as_empty(tmp_path: Path) -> None:
    coco(tmp_path)
    for number in (1, 2, 4, 5):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read '.*1\.png'.*2\.png.*; and 1 more\. Mend or remove"):
        only_batch(module(tmp_path))
    data = module(tmp_path, on_unreadable="skip")
    with pytest.warns(UserWarning, match="black image without objects"):
        batch = only_batch(data)
    assert (batch.label[[1, 2, 4, 5]] == IGNORE_LABEL).all()
    only_batch(data)  # told once: a second warning would be an error here
    assert list(data.unreadable(range(12))) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annotations": [[1]], "categories": []}', r"each of its annotations is .*, got \[1\]"),
        ("{", "cannot read .* as JSON"),
        ("[]", "lacks images, annotations, categories; it has list"),
        ('{"images": [], "annotations": []}', "lacks categories; it has images, annotations"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "each of its images needs id and file_name"),
        ('{"images": [], "annotations": [], "categories": []}', "need one or more different names"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "no image left to train on"),
    ],
)
def test_other_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    coco(tmp_path)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        module(tmp_path, val=None, test=None)
    with pytest.raises(UserError, match=r"data\.init_args\.train\.images: no such file or folder"):
        module(tmp_path, train=CocoFiles(str(tmp_path / "a.json"), str(tmp_path / "nowhere")))


def test_two_categories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    coco(tmp_path, categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}])
    assert module(tmp_path).class_names == ["cat", "cat 7"]


@pytest.mark.parametrize(("part", "name"), [("images", "id"), ("categories", "id"), ("annotations", "image_id")])
def test_an_id_that_is_none_is_named(part: str, name: str, tmp_path: Path) -> None:
    records = coco(tmp_path)[part]
    records[1][name] = [3]
    coco(tmp_path, **{part: records})
    with pytest.raises(UserError, match=rf"a\.json': {name} of one of its {part} is \[3\]; write a whole number"):
        module(tmp_path)


def test_whole_numbers_with_a_point_are_ids_and_endless_ones_no_boxes(tmp_path: Path) -> None:
    document = coco(tmp_path)
    whole = only_batch(module(tmp_path))
    for record in document["annotations"]:
        record["image_id"] = float(record["image_id"])
    document["annotations"][0] |= {"bbox": [2, 4, 10**400, 8], "area": 10**400}
    coco(tmp_path, **document)
    with pytest.warns(UserWarning, match="not four finite numbers: 1 dropped"):
        batch = only_batch(module(tmp_path))
    assert batch.label[1].tolist() == [IGNORE_LABEL, IGNORE_LABEL]
    assert torch.equal(batch.box[2:], whole.box[2:])
