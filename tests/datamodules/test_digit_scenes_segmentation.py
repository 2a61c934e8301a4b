import pytest
import torch

from datamodules.digit_scenes import DigitScenes
from datamodules.digit_scenes_segmentation import DigitScenesSegmentationDataModule
from datamodules.sampler import BatchIndex
from toolkit.errors import UserError

SMALL = {"image_size": (20, 24), "digits": (1, 2), "scale": (1.0, 1.5), "train_size": 6, "val_size": 3, "test_size": 3}


def test_a_batch_holds_the_scenes_asked_for() -> None:
    data = DigitScenesSegmentationDataModule(**SMALL, batch_size=4)
    assert (data.num_classes, data.class_names[:2], data.image_size) == (11, ("background", "0"), (20, 24))
    batch = data.dataset("val")[BatchIndex(0, torch.tensor([2, 0]))]
    scenes = DigitScenes("val", (20, 24), (1, 2), (1.0, 1.5))
    for row, number in enumerate((2, 0)):
        assert torch.equal(batch.image[row], scenes(number).image)
        assert torch.equal(batch.mask[row], scenes(number).mask)
    assert 0 < data.baseline("test").metrics["miou"] < 0.5
    assert data.baseline("test").name == "background everywhere"


def test_splits_differ_and_need_a_scene() -> None:
    data = DigitScenesSegmentationDataModule(**SMALL)
    assert not torch.equal(
        data.dataset("val").read(torch.tensor([0]))[0], data.dataset("test").read(torch.tensor([0]))[0]
    )
    with pytest.raises(UserError, match="val_size: need 1 scene or more, got 0"):
        DigitScenesSegmentationDataModule(**SMALL | {"val_size": 0})
