from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.cifar import CIFAR10DataModule, CIFAR100DataModule
from datamodules.digits import DigitsDataModule
from datamodules.mnist import FashionMNISTDataModule, MNISTDataModule
from datamodules.public_images import PublicImages
from toolkit.errors import UserError

EVERY = [MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule, CIFAR100DataModule]


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MNIST's files, with 100 training images whose pixels are all their own number, and 10 for test."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 100), ("t10k", 10)):
        pixels = np.arange(count)[:, None, None].repeat(28, 1).repeat(28, 2)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    return tmp_path


def test_placed_files_are_read_and_nothing_is_downloaded(root: Path) -> None:
    data = MNISTDataModule(str(root), val_size=20, batch_size=8)
    data.prepare_data()
    train, val, test = (data.dataset(stage) for stage in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [80, 20, 10]
    numbers = [int(split.read(torch.tensor([i]))[0][0, 0, 5, 5]) for split in (train, val) for i in range(len(split))]
    assert sorted(numbers) == list(range(100))  # each image once, in one of the two
    image, label = val.read(torch.arange(20))
    assert image.shape == (20, 1, 28, 28)
    assert torch.equal(image[:, 0, 0, 0].long() % 10, label)


@pytest.mark.parametrize("kind", EVERY)
def test_a_failed_download_says_how_to_place_the_files(
    kind: type[PublicImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(
        UserError, match=rf"{kind.torchvision_name} is not below .*could not be downloaded.*place by hand: "
    ):
        kind(str(tmp_path)).prepare_data()


@pytest.mark.parametrize("kind", EVERY)
def test_facts_agree_with_each_other(kind: type[PublicImages]) -> None:
    data = kind()
    assert data.num_classes == len(set(data.class_names)) == (100 if kind is CIFAR100DataModule else 10)
    assert len(data.pixel_mean) == len(data.pixel_std) == data.in_channels


def test_digits_are_scaled_split_and_complete() -> None:
    data = DigitsDataModule()
    sizes = [len(data.dataset(stage)) for stage in ("train", "val", "test")]
    assert sizes == [1259, 179, 359]
    image, label = data.dataset("train").read(torch.arange(1259))
    assert (int(image.min()), int(image.max())) == (0, 255)
    torch.testing.assert_close(data.pixel_mean[0], float(image.double().mean() / 255))
    assert label.bincount().min() > 110
