import pytest
import torch

from datamodules.annotated_images import PackedBoxes
from datamodules.box_baseline import mean_boxes_baseline
from datamodules.digit_detection import DigitScenesDataModule
from datamodules.digit_scenes import DigitScenes
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL


def test_digit_scenes_come_as_composed() -> None:
    data = DigitScenesDataModule(sizes=(20, 6, 5), image_size=(64, 96), batch_size=4)
    assert data.num_classes == 10
    batches = list(data.val_dataloader())
    assert [len(batch.image) for batch in batches] == [4, 2]
    scenes = DigitScenes("val", (64, 96))
    for batch in batches:
        for row, index in enumerate(batch.index.tolist()):
            image, box, label, _ = scenes(index)
            assert torch.equal(batch.image[row], image)
            assert torch.equal(batch.box[row, : len(box)], box)
            assert batch.label[row].tolist() == [*label.tolist(), *[IGNORE_LABEL] * (batch.label.shape[1] - len(label))]
            assert batch.size[row].tolist() == batch.original_size[row].tolist() == [64, 96]
    with pytest.raises(UserError, match="sizes: need three numbers"):
        DigitScenesDataModule(sizes=(20, 0, 5))


def test_boxes_are_padded_to_the_most_of_the_batch() -> None:
    count = torch.tensor([2, 0, 3])
    boxes = PackedBoxes(
        torch.arange(20.0).reshape(5, 4), torch.arange(5), torch.arange(5) == 3, torch.arange(5.0), count
    )
    box, label, crowd, area = boxes.padded(torch.tensor([2, 1, 0]))
    assert label.tolist() == [[2, 3, 4], [IGNORE_LABEL] * 3, [0, 1, IGNORE_LABEL]]
    assert box[0].tolist() == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert not box[1].any()
    assert crowd.nonzero().tolist() == [[0, 1]]
    assert area.tolist() == [[2, 3, 4], [0, 0, 0], [0, 1, 0]]
    assert boxes.padded(torch.tensor([1]))[1].tolist() == [[IGNORE_LABEL]]


def test_a_split_without_any_box_is_padded_too() -> None:
    box, label, crowd, area = (
        PackedBoxes.of([])._replace(count=torch.zeros(3, dtype=torch.int64)).padded(torch.arange(3))
    )
    assert label.tolist() == [[IGNORE_LABEL]] * 3
    assert box.shape == (3, 1, 4)
    assert crowd.dtype == torch.bool
    assert not any(field.any() for field in (box, crowd, area))


def test_the_baseline_is_right_where_boxes_fill_their_images() -> None:
    def split(n: int) -> tuple[PackedBoxes, torch.Tensor]:
        size = torch.tensor([[30, 40]]).expand(n, 2)
        box = torch.tensor([[0.0, 0, 40, 30]]).expand(n, 4)
        label, none = torch.ones(n, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)
        return PackedBoxes(box, label, none, torch.full((n,), 1200.0), torch.ones(n, dtype=torch.int64)), size

    baseline = mean_boxes_baseline(split(9), split(600), num_classes=3)
    assert baseline.metrics == {"map": 1.0, "map_50": 1.0}


def test_the_baseline_of_digits_is_low_and_repeatable() -> None:
    data, again = (DigitScenesDataModule(sizes=(50, 40, 5)) for _ in range(2))
    assert data.baseline("val") == again.baseline("val")
    assert 0 <= data.baseline("val").metrics["map"] <= data.baseline("val").metrics["map_50"] < 0.05
