from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.mask_files import MaskFiles
from datamodules.sampler import BatchIndex
from datamodules.segmentation_folder import SegmentationFolderDataModule
from datamodules.segmentation_input import SegmentationInputDataModule
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, SegmentationBatch, Stage


def pairs(folder: Path, count: int, values: tuple[int, ...] = (0, 1, 2, 255), mode: str = "P", seed: int = 0) -> None:
    """Images whose red is 40 times the position of the mask's value."""
    draw = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        place = draw.integers(0, len(values), (3, 4)).repeat(8, axis=0).repeat(8, axis=1)  # (24, 32)
        pixels = np.stack([40 * place, *draw.integers(0, 256, (2, 24, 32))], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        mask = Image.fromarray(np.array(values, dtype=np.uint8)[place])
        if mode == "P":
            mask.putpalette(draw.integers(0, 256, 768).astype(np.uint8).tobytes())
        mask.save(folder / "masks" / f"{number}.png")


def module(root: Path, **options: Any) -> SegmentationFolderDataModule:
    return SegmentationFolderDataModule(str(root), **{"batch_size": 4, "image_size": (24, 32)} | options)


def first(data: SegmentationFolderDataModule, stage: Stage = "train") -> SegmentationBatch:
    return data.dataset(stage)[BatchIndex(0, torch.arange(2))]


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_lie_over_their_images(tmp_path: Path, mode: str) -> None:
    pairs(tmp_path, 10, mode=mode)
    data = module(tmp_path)
    assert data.class_names == ["0", "1", "2"]
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [8, 1, 1]
    batch = first(data)
    assert batch.image.shape == (2, 3, 24, 32)
    place = batch.mask.where(batch.mask != IGNORE_LABEL, 3)
    assert torch.equal(batch.image[:, 0].long(), 40 * place)
    assert set(batch.mask.unique().tolist()) == {IGNORE_LABEL, 0, 1, 2}
    names = {data._pairs[stage][i].image for stage in data._pairs for i in range(len(data._pairs[stage]))}
    assert len(names) == 10


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_masks_are_resized_as_their_images(tmp_path: Path, fit: str) -> None:
    """By the nearest pixel: no value arises between two classes."""
    pairs(tmp_path, 10, values=(0, 5))
    data = module(tmp_path, image_size=48, fit=fit, class_names=list("abcdef"))
    batch = first(data)
    assert batch.mask.shape == (2, 48, 48)
    assert set(batch.mask.unique().tolist()) == {0, 5}
    sure = (batch.image[:, 0] == 0) | (batch.image[:, 0] == 40)  # away from borders
    assert sure.float().mean() > 0.5
    assert torch.equal(batch.mask[sure], (batch.image[:, 0].long() // 40 * 5)[sure])


def test_in_memory_gives_the_same_batches(tmp_path: Path) -> None:
    pairs(tmp_path, 12)
    on_disk, in_memory = (list(module(tmp_path, in_memory=kept).train_dataloader()) for kept in (False, True))
    for a, b in zip(on_disk, in_memory, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_black_and_white_masks(tmp_path: Path) -> None:
    pairs(tmp_path, 10, values=(0, 255), mode="L")
    with pytest.raises(
        UserError, match=r"If 255 is a class and not to be ignored, write data.init_args.values: \[0, 255\]"
    ):
        module(tmp_path)
    data = module(tmp_path, values=[0, 255], class_names=["sky", "tree"])
    assert set(first(data).mask.unique().tolist()) == {0, 1}


def test_the_user_s_own_split_and_names(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("valid", 3), ("test", 2)):
        pairs(tmp_path / split, count)
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    data = module(tmp_path, class_names=str(tmp_path / "names.txt"))
    assert data.class_names == ["background", "cat", "dog"]
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [8, 3, 2]
    assert data.sample_name(1) == str(tmp_path / "test" / "images" / "1.png")


def test_other_names_of_the_splits(tmp_path: Path) -> None:
    for split, count in (("Train", 4), ("Validation", 3)):
        pairs(tmp_path / split, count)
    data = module(tmp_path)
    assert [len(data.dataset(stage)) for stage in ("train", "val")] == [4, 3]
    pairs(tmp_path / "val", 2)
    with pytest.raises(UserError, match=r"has Validation and val, both for val; keep one of them"):
        module(tmp_path)


def test_the_baseline_answers_the_most_frequent_class(tmp_path: Path) -> None:
    pairs(tmp_path, 10, values=(0, 1, 1, 1, 255))
    data = module(tmp_path)
    mask = torch.cat([batch.mask for batch in data.val_dataloader()])
    share = (mask == 1).sum() / (mask >= 0).sum()
    baseline = data.baseline("val")
    assert baseline.name == "1 everywhere"
    assert baseline.metrics["pixel_acc"] == pytest.approx(float(share))
    assert baseline.metrics["miou"] == pytest.approx(float(share) / 2)


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    (tmp_path / "masks" / "2.png").unlink()
    with pytest.raises(
        UserError, match=r"1 of 4 images in '.*images' have no mask, such as 'images/2.png'.*masks/2.png"
    ):
        module(tmp_path)


def test_another_size_is_named(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.zeros((24, 30), dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match=r"has \[24, 32\] pixels \(height, width\), its mask '.*png' has \[24, 30\]"):
        first(module(tmp_path, class_names=["a", "b"]))


def test_values_without_a_class_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, 4, values=(0, 7, 9))
    with pytest.raises(
        UserError, match=r"has the values \[7, 9\], which stand for no class; the classes have \[0, 1\]"
    ):
        first(module(tmp_path, class_names=["a", "b"]))


def test_grey_values_are_no_class_numbers(tmp_path: Path) -> None:
    """Three values for the eye do not make 201 classes; one below 0 is none."""
    pairs(tmp_path / "grey", 4, values=(0, 128, 200))
    with pytest.raises(UserError, match=r"write data.init_args.values: \[0, 128, 200\] if each is a class"):
        module(tmp_path / "grey")
    with pytest.raises(UserError, match=r"ignore_value: need a grey value in 0\.\.255 or null, got 1000"):
        module(tmp_path / "grey", values=[0, 128, 200], ignore_value=1000)
    negative = Image.fromarray(np.array([[0, 1], [-1, 1]], dtype=np.int32))
    negative.save(tmp_path / "negative.tif")
    with pytest.raises(UserError, match=r"has the values \[-1\], which stand for no class"):
        MaskFiles([tmp_path / "negative.tif"], [0, 1], 255)(0)


def test_a_turned_picture_gets_a_mask_that_is_turned(tmp_path: Path) -> None:
    """Pillow turns a TIFF itself, and a JPEG only when it is asked to."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "b.tif"):
        Image.new("RGB", (60, 40)).save(tmp_path / name, exif=exif)
    data = SegmentationInputDataModule([str(tmp_path)], (8, 8), 3)
    assert [data.sample_size(i) for i in range(2)] == [(60, 40), (60, 40)]


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match="is a picture of mode RGB"):
        module(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    data = module(tmp_path, class_names=list("abc"))
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cannot read '.*images.*png'.*Mend or remove the file"):
        first(data)
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot read the mask"):
        data.baseline("val")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (["pictures/1.png"], r"has the folders \['pictures'\]; need images and masks"),
        (["images/1.png"], "no folder '.*masks'; need images and masks beside each other"),
        (["images/1.txt", "masks/1.png"], "no images in '.*images'"),
    ],
)
def test_other_layouts_are_explained(tmp_path: Path, make: list[str], message: str) -> None:
    for name in make:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        module(tmp_path)


def test_files_to_predict_keep_their_place(tmp_path: Path) -> None:
    pairs(tmp_path, 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    data = SegmentationInputDataModule([str(tmp_path / "images")], (8, 8), 3, batch_size=4)
    (batch,) = data.predict_dataloader()
    assert batch.image.shape == (4, 3, 8, 8)
    assert (batch.mask == IGNORE_LABEL).flatten(1).all(dim=1).tolist() == [False, False, False, True]
    assert data.sample_size(1) == (24, 32)
    assert list(data.unreadable(range(4))) == [3]
    assert data.sample_name(3).endswith("broken.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--input: no images in"):
        SegmentationInputDataModule([str(tmp_path / "empty")], (8, 8), 3)
