from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from datamodules.image_files import ImageFilesDataModule
from datamodules.image_folder import ImageFolderDataModule
from datamodules.imagenet import ImageNetDataModule
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, ImageBatch


def images(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")


@pytest.fixture
def single(tmp_path: Path) -> Path:
    for number, name in enumerate(("ant", "bee", "cat")):
        images(tmp_path / "single" / name, 20, number)
    return tmp_path / "single"


def module(root: Path, **options: Any) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), image_size=16, **{"batch_size": 8} | options)


def batches(data: ImageFolderDataModule, stage: str = "train") -> Sequence[ImageBatch]:
    return list(getattr(data, f"{stage}_dataloader")())


def test_a_single_folder_is_split_stratified(single: Path) -> None:
    data = module(single, val_size=0.1, test_size=6)
    assert data.class_names == ["ant", "bee", "cat"]
    assert data.num_classes == 3
    train, val, test = (data.dataset(stage).label.bincount().tolist() for stage in ("train", "val", "test"))
    assert test == [2, 2, 2]
    assert sorted(val) == [1, 2, 2]
    assert [a + b for a, b in zip(train, val, strict=True)] == [18, 18, 18]
    names = [path for stage in ("train", "val", "test") for path, _ in data._files[stage]]
    assert len(set(names)) == 60


def test_the_user_s_own_split_is_kept(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("valid", 3), ("test", 2)):
        for name in ("a", "b"):
            images(tmp_path / split / name, count)
    data = module(tmp_path)
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [16, 6, 4]
    assert data.sample_name(2) == str(tmp_path / "test" / "b" / "0.jpg")


def test_names_of_splits_in_other_spellings_and_beside_folders_without_images(tmp_path: Path) -> None:
    for split, count in (("Train", 8), ("validation", 3), ("TEST", 2)):
        for name in ("a", "b"):
            images(tmp_path / split / name, count)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").touch()
    data = module(tmp_path)
    assert data.class_names == ["a", "b"]
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [16, 6, 4]


@pytest.mark.parametrize("other", ["extra", "valid"])
def test_a_folder_of_images_beside_the_splits_is_refused(tmp_path: Path, other: str) -> None:
    for split in ("train", "val", other):
        for name in ("a", "b"):
            images(tmp_path / split / name, 1)
    with pytest.raises(UserError, match=rf"has train, val, .* no further splits: \['{other}'\]; move"):
        module(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        images(tmp_path / name, 20)
    assert module(tmp_path).class_names == ["bus", "train"]


def test_both_input_paths_and_any_number_of_workers_give_the_same_batches(single: Path) -> None:
    on_disk, in_memory, workers = (
        batches(module(single, **options)) for options in ({}, {"in_memory": True}, {"num_workers": 2})
    )
    assert len(on_disk) == len(in_memory) == len(workers) > 3
    for a, b, c in zip(on_disk, in_memory, workers, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            assert torch.equal(x, y)
            assert torch.equal(x, z)


def test_grey_files_where_rgb_is_expected_and_the_reverse(single: Path) -> None:
    Image.fromarray(np.full((20, 24), 9, dtype=np.uint8)).save(single / "ant" / "grey.png")
    assert batches(module(single))[0].image.shape == (8, 3, 16, 16)
    assert batches(module(single, in_channels=1))[0].image.shape == (8, 1, 16, 16)


@pytest.fixture
def damaged(single: Path) -> Path:
    for path in (single / "bee").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    return single


@pytest.mark.parametrize("options", [{}, {"in_memory": True}, {"num_workers": 1}])
def test_a_truncated_image_stops_with_its_name(damaged: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"cannot read '.*bee/\d+\.jpg'.*on_unreadable: skip"):
        batches(module(damaged, **options))


@pytest.mark.parametrize("options", [{}, {"in_memory": True}])
def test_unreadable_images_count_nowhere_if_asked(damaged: Path, options: dict[str, Any]) -> None:
    data = module(damaged, on_unreadable="skip", **options)
    for batch in batches(data):
        broken = batch.label == IGNORE_LABEL
        assert batch.image[broken].sum() == 0
        assert (batch.label[~broken] != 1).all()
    assert any((batch.label == IGNORE_LABEL).any() for batch in batches(data))


def test_each_skipped_file_is_told_once_and_counted(damaged: Path) -> None:
    data = module(damaged, on_unreadable="skip")
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data.trainer.training = True
    batch = next(batch for batch in batches(data) if (batch.label == IGNORE_LABEL).any())
    with pytest.warns(UserWarning, match=r"skipped '.*bee.*', which cannot be read; \d+ skipped so far"):
        data.on_before_batch_transfer(batch, 0)
    data.on_before_batch_transfer(batch, 0)  # a second warning would be an error here


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, "no class folder with images and 0 images in all"),
        (lambda root: images(root, 3), "no class folder with images and 3 images in all"),
        (lambda root: images(root / "ant", 3), r"one class only \('ant'\).*need a folder for each of two or more classes.*images without classes are read by UnlabelledFolderDataModule"),
        (lambda root: [images(root / f, 3) for f in ("train/a", "train/b", "val/a", "val/c")], r"classes that the training folder has not: \['c'\]"),
    ],
)  # fmt: skip
def test_wrong_folders_are_explained(tmp_path: Path, build: Any, message: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    build(root)
    with pytest.raises(UserError, match=message):
        module(root)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.init_args\.root: no such file or folder: '.*nowhere'"):
        module(tmp_path / "nowhere")


def test_no_test_images_are_told_when_they_are_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        images(tmp_path / "train" / name, 10)
    with pytest.raises(UserError, match=r"no images to test on; add a folder .*test"):
        module(tmp_path).test_dataloader()


def test_imagenet_tests_on_its_official_validation_set(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("val", 3)):
        for name in ("n01", "n02"):
            images(tmp_path / split / name, count)
    data = ImageNetDataModule(str(tmp_path), image_size=16, val_size=0.1)
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [36, 4, 6]


def test_files_to_predict_keep_their_order_and_their_reasons(damaged: Path) -> None:
    paths = [str(damaged / "cat" / "3.jpg"), str(damaged / "bee")]
    data = ImageFilesDataModule(paths, image_size=(8, 8), in_channels=1, batch_size=64)
    (batch,) = data.predict_dataloader()
    assert batch.image.shape == (21, 1, 8, 8)
    assert (batch.label == IGNORE_LABEL).tolist() == [False] + [True] * 20
    assert data.sample_name(0) == paths[0]
    reasons = data.unreadable(range(21))
    assert list(reasons) == list(range(1, 21))
    assert "cannot read" in reasons[1]


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--input: no images in"):
        ImageFilesDataModule([str(tmp_path)], image_size=(8, 8), in_channels=1)
    with pytest.raises(UserError, match="--input: no such file"):
        ImageFilesDataModule([str(tmp_path / "x.png")], image_size=(8, 8), in_channels=1)
