from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.npz import NPZDataModule
from toolkit.errors import UserError

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, 8, 9, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


def module(folder: Path, arrays: dict[str, Any], **options: Any) -> NPZDataModule:
    np.savez(folder / "data.npz", **arrays)
    return NPZDataModule(str(folder / "data.npz"), **options)


TRAIN = {"train_images": IMAGES, "train_labels": LABELS}
TEST = {"test_images": IMAGES[:6], "test_labels": LABELS[:6, None]}


def test_facts_and_splits(tmp_path: Path) -> None:
    data = module(tmp_path, TRAIN | TEST, val_size=12, batch_size=4)
    assert (data.num_classes, data.class_names, data.in_channels, data.image_size) == (3, ["0", "1", "2"], 3, (8, 9))
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [48, 12, 6]
    assert data.dataset("val").label.bincount().tolist() == [4, 4, 4]
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(batch.image, torch.from_numpy(IMAGES[:4]).permute(0, 3, 1, 2))
    assert batch.label.tolist() == [0, 1, 2, 0]
    train = data.dataset("train").image.double() / 255  # type: ignore[attr-defined]
    torch.testing.assert_close(torch.tensor(data.pixel_mean).double(), train.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(data.pixel_std).double(), train.std((0, 2, 3), unbiased=False))


def test_grey_images_without_a_channel_axis(tmp_path: Path) -> None:
    data = module(tmp_path, {"train_images": IMAGES[..., 0], "train_labels": LABELS}, batch_size=4)
    assert data.in_channels == 1
    assert data.dataset("train").read(torch.arange(2))[0].shape == (2, 1, 8, 9)


def test_baseline_is_the_majority_of_the_training_labels(tmp_path: Path) -> None:
    labels = np.array([0] * 40 + [1] * 20)
    test = {"test_images": IMAGES[:4], "test_labels": np.array([0, 1, 1, 1])}
    data = module(tmp_path, {"train_images": IMAGES, "train_labels": labels} | test)
    assert data.baseline("test").metrics == {"acc": 0.25}


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"images": IMAGES, "labels": LABELS}, {}, "must have the keys train_images and train_labels.*it has images, labels"),
        ({"train_images": IMAGES}, {}, "train_images but no train_labels"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, {}, r"train_images is empty, of shape \(0, 8, 9, 3\)"),
        ({"train_images": IMAGES / 255, "train_labels": LABELS}, {}, r"must be uint8 of shape .*got float64 of shape \(60, 8, 9, 3\)"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2), "train_labels": LABELS}, {}, r"must be uint8 of shape .* got uint8 of shape \(60, 3, 8, 9\)"),
        ({"train_images": IMAGES, "train_labels": LABELS[:50]}, {}, r"integers of shape \(60,\)"),
        ({"train_images": IMAGES, "train_labels": np.eye(3)[LABELS]}, {}, "integers of shape"),
        ({"train_images": IMAGES, "train_labels": LABELS - 1}, {}, r"train_labels must lie in 0\.\.1, it also has \[-1\]"),
        (TRAIN | {"test_images": IMAGES[:3], "test_labels": np.array([0, 7, 9])}, {}, r"test_labels must lie in 0\.\.2, it also has \[7, 9\]"),
        (TRAIN, {"num_classes": 2}, r"train_labels must lie in 0\.\.1, it also has \[2\]"),
        (TRAIN, {"num_classes": 3, "class_names": ["a", "b"]}, "need 3 names"),
        ({"train_images": IMAGES, "train_labels": LABELS * 0}, {}, "one class only"),
        (TRAIN | {"val_images": IMAGES[:, :4], "val_labels": LABELS}, {}, "must agree in all but their number"),
        ({"train_images": IMAGES, "train_labels": np.array(["a"] * 60, dtype=object)}, {}, "no .npz of plain arrays"),
    ],
)  # fmt: skip
def test_wrong_files_are_explained(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        module(tmp_path, arrays, **options)


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("text")
    with pytest.raises(UserError, match=r"no \.npz of plain arrays"):
        NPZDataModule(str(tmp_path / "x.npz"))
    with pytest.raises(UserError, match=r"data\.init_args\.path: no such file .*Did you mean .*x\.npz"):
        NPZDataModule(str(tmp_path / "xx.npz"))


def test_a_missing_test_part_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no test_images"):
        module(tmp_path, TRAIN).test_dataloader()
