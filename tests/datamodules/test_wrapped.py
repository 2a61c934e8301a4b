from pathlib import Path

import pytest
import torch
from PIL import Image

from datamodules.digits import DigitsDataModule
from datamodules.image_folder import ImageFolderDataModule
from datamodules.wrapped import LabelledSubsetDataModule, OneClassDataModule
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL

DIGITS = DigitsDataModule()


def chosen(data: LabelledSubsetDataModule) -> torch.Tensor:
    return data.dataset("train").index  # type: ignore[attr-defined,no-any-return]


def test_a_subset_has_as_many_of_each_class_and_their_own_images() -> None:
    data = LabelledSubsetDataModule(DIGITS, labels_per_class=3, batch_size=10)
    train, whole = data.dataset("train"), DIGITS.dataset("train")
    assert train.label.bincount().tolist() == [3] * 10
    image, label = train.read(torch.arange(30))
    theirs, their_label = whole.read(chosen(data))
    assert torch.equal(image, theirs)
    assert torch.equal(label, their_label)
    assert [len(data.dataset(stage)) for stage in ("val", "test")] == [len(DIGITS.dataset(s)) for s in ("val", "test")]
    assert (data.num_classes, data.image_size, data.pixel_mean) == (10, (8, 8), DIGITS.pixel_mean)


def test_the_choice_follows_the_seed_of_the_run_unless_it_has_its_own() -> None:
    def choose(seed: int, subset_seed: int | None) -> list[int]:
        data = LabelledSubsetDataModule(DIGITS, labels_per_class=3, subset_seed=subset_seed)
        data.seed = seed
        return sorted(chosen(data).tolist())

    assert choose(0, None) == choose(0, None) != choose(1, None)
    assert choose(0, 5) == choose(1, 5) == choose(5, None)


def test_repeats_make_an_epoch_longer_and_augment_anew() -> None:
    data = LabelledSubsetDataModule(DIGITS, labels_per_class=1, repeats=4, batch_size=40)
    batch = next(iter(data.train_dataloader()))
    assert batch.label.bincount().tolist() == [4] * 10
    assert len(batch.key.unique()) == 40
    assert len(batch.image.unique(dim=0)) == 10


def test_one_class_trains_on_it_and_is_tested_on_all() -> None:
    data = OneClassDataModule(DIGITS, normal="7")
    assert list(data.class_names) == ["normal", "anomalous"]
    train, test = data.dataset("train"), data.dataset("test")
    assert len(train) == int((DIGITS.dataset("train").label == 7).sum())
    assert train.label.unique().tolist() == [0]
    assert torch.equal(test.label == 0, DIGITS.dataset("test").label == 7)
    image, label = test.read(torch.tensor([4, 2]))
    assert torch.equal(image, DIGITS.dataset("test").read(torch.tensor([4, 2]))[0])
    assert torch.equal(label, test.label[[4, 2]])


def test_an_unreadable_image_stays_one(tmp_path: Path) -> None:
    for name in ("ant", "cat"):
        for split, count in (("train", 6), ("test", 2)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / split / name / f"{number}.png")
    (tmp_path / "test" / "cat" / "broken.png").write_bytes(b"no image")
    source = ImageFolderDataModule(str(tmp_path), image_size=8, on_unreadable="skip")
    data = OneClassDataModule(source, normal="cat")
    batches = list(data.test_dataloader())
    unread = torch.cat([batch.index[batch.label == IGNORE_LABEL] for batch in batches]).tolist()
    assert [source.sample_name(index) for index in unread] == [data.sample_name(index) for index in unread]
    assert [Path(data.sample_name(index)).name for index in unread] == ["broken.png"]
    assert list(data.unreadable(unread)) == unread


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_per_class": 0}, "labels_per_class >= 1"),
        ({"labels_per_class": 1, "repeats": 0}, "repeats >= 1"),
        ({"labels_per_class": 1000}, r"class '0' has 124 labelled training images, fewer than 1000"),
    ],
)
def test_impossible_subsets(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelledSubsetDataModule(DIGITS, **options).dataset("train")


def test_an_unknown_normal_class() -> None:
    with pytest.raises(UserError, match="no class 'x'; choose from 0, 1, 2"):
        OneClassDataModule(DIGITS, normal="x")
