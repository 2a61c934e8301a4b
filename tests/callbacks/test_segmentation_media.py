import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

import callbacks.segmentation_media
from callbacks.media import Media
from callbacks.segmentation_media import ClassIoU, Kept, PredictedMasks, beside, class_rows
from datamodules.base import BaseDataModule, BatchedDataset
from datamodules.sampler import BatchIndex
from examples.parity import Parity
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, SegmentationBatch, Stage
from toolkit.vision.semantic_segmentation import SemanticSegmentation


class Guess(nn.Module):
    """Class 1 where a pixel is bright, else class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        bright = image.mean(dim=1)
        return self.scale * torch.stack([-bright, bright, torch.full_like(bright, -9.0)], dim=1)


class Four(BaseDataModule, BatchedDataset):
    """Four 2x2 images, bright in the left column; the truth is bright above, and once nothing is known."""

    def dataset(self, stage: Stage) -> BatchedDataset:
        return self

    def __len__(self) -> int:
        return 4

    def __getitem__(self, batch: BatchIndex) -> SegmentationBatch:
        image = torch.tensor([[250, 5], [250, 5]], dtype=torch.uint8).expand(len(batch.index), 3, 2, 2)
        mask = torch.tensor([[1, 1], [0, 0]]).repeat(len(batch.index), 1, 1)
        mask[batch.index == 3] = IGNORE_LABEL
        return SegmentationBatch(image, mask, batch.index, batch.index)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Media]:
    found: dict[str, Media] = {}
    monkeypatch.setattr(
        callbacks.segmentation_media, "log_media", lambda trainer, key, media: found.update({key: media})
    )
    return found


def fit(*pictures: Any) -> None:
    def still(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    task = SemanticSegmentation(Guess(), 3, class_names=["floor", "wall", "roof"], pixel_mean=[0.5] * 3,
                                pixel_std=[0.5] * 3, optimizer=still)  # fmt: skip
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(pictures),
    )  # fmt: skip
    data = Four(batch_size=2, eval_batch_size=3)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)


def test_masks_stand_beside_their_images(seen: dict[str, Any]) -> None:
    fit(PredictedMasks(count=2))
    assert set(seen) == {"val/masks", "test/masks"}
    assert seen["val/masks"].pixels.ndim == 3


def test_a_class_is_counted_over_all_batches(seen: dict[str, Any], tmp_path: Path) -> None:
    fit(ClassIoU())
    assert set(seen) == {"val/class_iou", "test/class_iou"}
    seen["test/class_iou"].write(tmp_path / "table.csv")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["floor", "wall", "roof"]
    assert [row["iou"] for row in rows] == ["0.3333", "0.3333", ""]
    assert [row["pixels"] for row in rows] == ["6", "6", "0"]
    assert [row["taken_mostly_for"] for row in rows] == ["wall", "floor", ""]


def test_shares_of_a_table() -> None:
    rows = class_rows(torch.tensor([[6, 2], [0, 2]]), ["a", "b"])
    assert rows == [["a", "0.7500", "0.7500", "1.0000", 8, "b"], ["b", "0.5000", "1.0000", "0.5000", 2, ""]]


def test_colours_of_true_and_predicted() -> None:
    image = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    mask = torch.tensor([[[0, 1], [2, IGNORE_LABEL]]])
    picture = beside(Kept(torch.tensor([0]), image, mask, torch.zeros_like(mask)))
    assert picture.shape == (1, 3, 2, 10)
    plain, black = picture[0, :, 0, 0], picture[0, :, 0, 4]
    assert plain.tolist() == [100] * 3
    assert black.tolist() == [35] * 3  # the background lets the image through, darker
    assert len({tuple(picture[0, :, i, j].tolist()) for i in range(2) for j in (4, 5)}) == 4
    assert torch.equal(picture[0, :, :, 8:], picture[0, :, :1, 4:5].expand(-1, 2, 2))


@pytest.mark.parametrize("picture", [PredictedMasks, ClassIoU])
def test_other_tasks_are_refused(picture: Any) -> None:
    with pytest.raises(UserError, match="draws SemanticSegmentation, got Parity; remove it"):
        picture().setup(Trainer(logger=False, accelerator="cpu"), Parity(nn.Linear(1, 1)), "fit")
    with pytest.raises(UserError, match="count: need at least 1, got 0"):
        PredictedMasks(count=0)
