from pathlib import Path

import pytest

from datamodules.voc_detection import VocDetectionDataModule
from tests.datamodules.detection_data import voc
from toolkit.errors import UserError

BOX = (1, 3, 20, 12)


def test_official_lists_names_and_difficult_objects(tmp_path: Path) -> None:
    objects = {"a": [("dog", 0, BOX), ("cat", 1, BOX)], "b": [("cat", 0, BOX)], "c": [], "d": [("dog", 0, BOX)]}
    voc(tmp_path / "voc", {"train": ["a", "c"], "val": ["b  1"], "test": ["d"]}, **objects)
    data = VocDetectionDataModule(str(tmp_path / "voc"), image_size=(20, 40), batch_size=2)
    assert data.class_names == ["cat", "dog"]
    assert data.category_ids == [1, 2]
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [2, 1, 1]
    (batch,) = data.train_in_order()
    assert batch.box[0].tolist() == [[0, 2, 20, 12]] * 2  # numbers of pixels, counted from 1, both inside
    assert batch.label[0].tolist() == [1, 0]
    assert batch.crowd.tolist() == [[False, True], [False, False]]
    assert batch.area[0].tolist() == [200, 200]
    assert data.sample_name(0).endswith("JPEGImages/d.png")  # the XML says wrong.jpg


def test_without_lists_everything_is_split_here(tmp_path: Path) -> None:
    voc(tmp_path / "voc", {}, **{f"i{n}": [("dog", 0, BOX)] for n in range(10)})
    data = VocDetectionDataModule(str(tmp_path / "voc"), val_size=2, test_size=0.3)
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [5, 2, 3]


def test_the_lists_of_2007(tmp_path: Path) -> None:
    """Validation is held out of trainval.txt, and nothing of test.txt is trained on."""
    names = [f"i{n}" for n in range(8)]
    voc(tmp_path / "voc", {"trainval": names[:6], "test": names[6:]}, **{n: [("dog", 0, BOX)] for n in names})
    data = VocDetectionDataModule(str(tmp_path / "voc"), val_size=2)
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [4, 2, 2]
    assert [Path(data.sample_name(i)).stem for i in range(2)] == names[6:]
    (tmp_path / "voc" / "ImageSets" / "Main" / "trainval.txt").unlink()
    with pytest.raises(UserError, match=r"has test.txt, but neither train.txt nor trainval.txt"):
        VocDetectionDataModule(str(tmp_path / "voc"))


def test_trainval_without_train_leaves_the_other_lists_out(tmp_path: Path) -> None:
    names = [f"i{n}" for n in range(8)]
    lists = {"trainval": names[:6], "val": names[4:6], "test": names[6:]}
    voc(tmp_path / "voc", lists, **{n: [("dog", 0, BOX)] for n in names})
    data = VocDetectionDataModule(str(tmp_path / "voc"))
    assert [image.path.stem for image in data._images["train"]] == names[:4]
    assert [image.path.stem for image in data._images["val"]] == names[4:6]


def test_lists_that_share_images_are_told(tmp_path: Path) -> None:
    voc(tmp_path / "voc", {"train": ["a", "b"], "val": ["b"]}, a=[("dog", 0, BOX)], b=[("dog", 0, BOX)])
    with pytest.warns(UserWarning, match=r"train\.txt and val\.txt of '.*Main' both have b \(1 in all\)"):
        VocDetectionDataModule(str(tmp_path / "voc"))


def test_class_names_are_checked(tmp_path: Path) -> None:
    voc(tmp_path / "voc", {}, a=[("dog", 0, BOX)], b=[("dog", 0, BOX)])
    for names in (["Dog"], ["dog", "dog"]):
        with pytest.raises(UserError, match=r"need different names out of dog, got"):
            VocDetectionDataModule(str(tmp_path / "voc"), class_names=names)


def test_no_test_images_is_explained(tmp_path: Path) -> None:
    """By what VOC has; and a share of few images holds one out."""
    voc(tmp_path / "voc", {"train": ["a", "b"]}, a=[("dog", 0, BOX)], b=[("dog", 0, BOX)])
    data = VocDetectionDataModule(str(tmp_path / "voc"), val_size=0.1)
    assert len(data.dataset("val")) == 1
    with pytest.raises(UserError, match=r"no images to test on; write ImageSets/Main/test.txt"):
        data.dataset("test")


def test_mistakes_are_told(tmp_path: Path) -> None:
    voc(
        tmp_path / "voc",
        {"train": ["a", "b", "c", "e"]},
        a=[("dog", 0, (4, 4, 4, 9)), ("dog", 0, BOX)],
        b=[],
        c=[("cow", 0, BOX)],
    )
    (tmp_path / "voc" / "JPEGImages" / "b.png").unlink()
    with pytest.warns(UserWarning, match="^data: voc, train") as told:
        data = VocDetectionDataModule(str(tmp_path / "voc"), class_names=["dog"], val_size=0)
    assert [str(warning.message) for warning in told] == [
        "data: voc, train: degenerate boxes, of no width or height: 1 dropped (a.png [4, 4, 4, 9])",
        f"data: voc, train: images whose file is missing: 1 dropped ({tmp_path}/voc/JPEGImages/b)",
        "data: voc, train: annotations of an unknown category: 1 dropped (c.png [cow])",
        "data: voc, train: images without a readable annotation file: 1 dropped (e)",
    ]
    assert len(data.dataset("train")) == 2
    with pytest.raises(UserError, match=r"degenerate boxes.*\n.*missing"):
        VocDetectionDataModule(str(tmp_path / "voc"), class_names=["dog"], on_invalid="stop")


def test_other_folders_are_explained(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match=r"need the folders JPEGImages and Annotations in .* found pictures"):
        VocDetectionDataModule(str(tmp_path))
    voc(tmp_path / "voc", {}, a=[])
    with pytest.raises(UserError, match=r"no object in .* has a name"):
        VocDetectionDataModule(str(tmp_path / "voc"))
