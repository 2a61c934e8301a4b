import pytest
import torch

from datamodules.digits import DigitsDataModule
from datamodules.image import ImageArrays, ImageDataModule
from datamodules.sampler import BatchIndex
from datamodules.semi_supervised import SemiSupervisedDataModule, UnlabelledAndLabelled
from datamodules.wrapped import LabelledSubsetDataModule
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, SemiSupervisedBatch, Stage

DIGITS = DigitsDataModule()


def module(**options: int) -> SemiSupervisedDataModule:
    few = LabelledSubsetDataModule(DIGITS, labels_per_class=2)
    sizes = {"batch_size": 30, "labelled_batch_size": 10, **options}
    return SemiSupervisedDataModule(few, DIGITS, **sizes)


def test_a_batch_of_both() -> None:
    data = module()
    batches = list(data.train_dataloader())
    batch = batches[0]
    assert isinstance(batch, SemiSupervisedBatch)
    assert len(batches) == len(DIGITS.dataset("train")) // 30
    assert (len(batch.unlabelled.image), len(batch.labelled.image)) == (30, 10)
    assert set(batch.unlabelled.label.tolist()) == {IGNORE_LABEL}
    assert batch.readable.all()
    assert torch.equal(batch.unlabelled.image, DIGITS.dataset("train").read(batch.unlabelled.index)[0])
    few = data.source.dataset("train")
    image, label = few.read(batch.labelled.index)
    assert torch.equal(batch.labelled.image, image)
    assert torch.equal(batch.labelled.label, label)


def test_an_unlabelled_image_that_cannot_be_read_is_told_from_the_others() -> None:
    split = DIGITS.dataset("train")
    image, label = split.read(torch.arange(4))
    label[2] = IGNORE_LABEL
    many = UnlabelledAndLabelled(ImageArrays(image, label), ImageArrays(image[:2], label[:2]), ratio=2)
    batch = many[BatchIndex(0, torch.arange(4))]
    assert batch.readable.tolist() == [True, True, False, True]
    assert set(batch.unlabelled.label.tolist()) == {IGNORE_LABEL}


def test_all_labelled_images_are_drawn_and_each_time_augmented_anew() -> None:
    batches = list(module().train_dataloader())
    index = torch.cat([batch.labelled.index for batch in batches])  # (410,)
    assert index.bincount(minlength=20).min() >= 8  # 20.5 expected
    keys = torch.cat([torch.cat([batch.labelled.key, batch.unlabelled.key]) for batch in batches])
    assert len(keys.unique()) == len(keys)


def test_labelled_partners_do_not_depend_on_how_a_batch_is_dealt() -> None:
    dataset = module().dataset("train")
    whole = dataset[BatchIndex(3, torch.arange(30))].labelled
    parts = [dataset[BatchIndex(3, torch.arange(start, start + 15))].labelled for start in (0, 15)]
    for field in range(4):
        assert torch.equal(whole[field], torch.cat([part[field] for part in parts]))
    assert not torch.equal(whole.index, dataset[BatchIndex(4, torch.arange(30))].labelled.index)


def test_evaluation_is_that_of_the_labelled_source() -> None:
    data = module(eval_batch_size=50)
    label = torch.cat([batch.label for batch in data.val_dataloader()])
    assert torch.equal(label, DIGITS.dataset("val").label)


class OneClassMissing(ImageDataModule):
    """Class 9 has no training image."""

    def __init__(self) -> None:
        super().__init__()
        self.class_names, self.in_channels, self.image_size = DIGITS.class_names, 1, (8, 8)
        self.pixel_mean, self.pixel_std = DIGITS.pixel_mean, DIGITS.pixel_std

    def build(self, stage: Stage) -> ImageArrays:
        split = DIGITS.build(stage)
        return split.subset((split.label != 9).nonzero()[:, 0])


def test_a_class_without_a_label() -> None:
    data = SemiSupervisedDataModule(OneClassMissing(), DIGITS, batch_size=30, labelled_batch_size=10)
    with pytest.raises(UserError, match="no labelled training image of class 9; label at least one"):
        data.dataset("train")


def test_images_of_another_size() -> None:
    other = OneClassMissing()
    other.image_size = (9, 8)
    with pytest.raises(UserError, match=r"unlabelled: images of \(1, 9, 8\).* are \(1, 8, 8\)"):
        SemiSupervisedDataModule(DIGITS, other)


@pytest.mark.parametrize("size", [0, 7, 60])
def test_a_labelled_batch_that_does_not_divide(size: int) -> None:
    with pytest.raises(UserError, match=f"need a divisor of batch_size 30, got {size}"):
        module(labelled_batch_size=size)
