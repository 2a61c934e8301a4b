import csv
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.prediction_writer import FieldRows, PredictionWriter
from datamodules.base import BaseDataModule, BatchedDataset
from datamodules.sampler import BatchIndex
from tests import forked
from toolkit.errors import UserError
from toolkit.nn.mlp import MLP
from toolkit.types import IGNORE_LABEL, ImageBatch, ImageFeatures, ImagePrediction, ImageScore, Stage
from toolkit.vision.image_classification import ImageClassification

NAMES = ["ant", "bee", "cat, big"]
PROBABILITY = torch.tensor([[0.1, 0.6, 0.3], [0.7, 0.1, 0.2], [0.0, 0.25, 0.75], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
UNREADABLE = 3


class FivePictures(BaseDataModule, BatchedDataset):
    """Five samples; the fourth cannot be read."""

    def __init__(self, batch_size: int = 2) -> None:
        super().__init__(batch_size)

    def dataset(self, stage: Stage) -> BatchedDataset:
        return self

    def __len__(self) -> int:
        return len(PROBABILITY)

    def __getitem__(self, batch: BatchIndex) -> ImageBatch:
        label = torch.zeros(len(batch.index), dtype=torch.int64).masked_fill(batch.index == UNREADABLE, IGNORE_LABEL)
        image = torch.zeros(len(batch.index), 1, 2, 2, dtype=torch.uint8)
        return ImageBatch(image, label, batch.index, batch.index)

    def sample_name(self, index: int) -> str:
        return f"folder/{index}.png"

    def unreadable(self, indices: Any) -> dict[int, str]:
        return dict.fromkeys(indices, "cannot read it")


class Known(ImageClassification):
    """Gives the probabilities above."""

    def __init__(self) -> None:
        net = MLP(num_classes=3, in_channels=1, image_size=(2, 2), hidden=[2])
        super().__init__(net, num_classes=3, class_names=NAMES)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImagePrediction:
        return ImagePrediction(PROBABILITY[batch.index], batch.index, batch.label != IGNORE_LABEL)


class Scored(Known):
    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageScore:  # type: ignore[override]
        return ImageScore(batch.index / 2, batch.index, batch.label != IGNORE_LABEL)


class Described(Known):
    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageFeatures:  # type: ignore[override]
        return ImageFeatures(batch.index[:, None] / torch.tensor([1, 2]), batch.index, batch.label != IGNORE_LABEL)


class Unknown(Known):
    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:  # type: ignore[override]
        return batch.index


def predict(writer: PredictionWriter, task: ImageClassification | None = None, **options: Any) -> None:
    trainer = Trainer(callbacks=writer, logger=False, accelerator="cpu", enable_progress_bar=False, **options)
    trainer.predict(task or Known(), datamodule=FivePictures(), return_predictions=False)


def read(file: Path) -> list[list[str]]:
    with open(file, newline="") as text:
        return list(csv.reader(text))


EXPECTED = [
    ["path", "predicted", "probability", "class_2", "probability_2", "error"],
    ["folder/0.png", "bee", "0.6", "cat, big", "0.3", ""],
    ["folder/1.png", "ant", "0.7", "cat, big", "0.2", ""],
    ["folder/2.png", "cat, big", "0.75", "bee", "0.25", ""],
    ["folder/3.png", "", "", "", "", "cannot read it"],
    ["folder/4.png", "ant", "1", "bee", "0", ""],
]


def test_rows_in_order_with_the_reason_of_the_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "folder" / "out.csv"
    predict(PredictionWriter(file, top_k=2))
    assert read(file) == EXPECTED
    assert capsys.readouterr().out == f"predictions  {file}  (5 rows, 1 unreadable)\n"
    assert [path.name for path in file.parent.iterdir()] == ["out.csv"]


@pytest.mark.parametrize(
    ("task", "header", "last"), [(Scored, ["score"], ["2"]), (Described, ["feature_0", "feature_1"], ["4", "2"])]
)
def test_what_cannot_be_read_has_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: type[Known], header: list[str], last: list[str]
) -> None:
    predict(PredictionWriter(tmp_path / "out.csv"), task())
    rows = read(tmp_path / "out.csv")
    assert rows[0] == ["path", *header, "error"]
    assert rows[4:] == [["folder/3.png", *[""] * len(header), "cannot read it"], ["folder/4.png", *last, ""]]
    assert "(5 rows, 1 unreadable)" in capsys.readouterr().out


def test_the_default_path_is_the_folder_of_the_run(tmp_path: Path) -> None:
    predict(PredictionWriter(None, 2), default_root_dir=tmp_path)
    assert read(tmp_path / "predictions.csv") == EXPECTED


def test_no_more_classes_than_there_are(tmp_path: Path) -> None:
    predict(PredictionWriter(tmp_path / "out.csv", top_k=5))
    header, first, *_ = read(tmp_path / "out.csv")
    assert header[-3:] == ["class_3", "probability_3", "error"]
    assert first[-3:] == ["ant", "0.1", ""]


def test_a_writer_writes_twice(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "out.csv", 2)
    predict(writer)
    predict(writer)
    assert read(tmp_path / "out.csv") == EXPECTED


def test_without_a_datamodule_samples_have_numbers(tmp_path: Path) -> None:
    trainer = Trainer(callbacks=PredictionWriter(tmp_path / "out.csv", 1), logger=False, accelerator="cpu",
                      enable_progress_bar=False)  # fmt: skip
    index = torch.tensor([4, 3, 0])  # in no order
    batch = FivePictures()[BatchIndex(0, index)]
    trainer.predict(Known(), DataLoader([batch], batch_size=None), return_predictions=False)
    assert read(tmp_path / "out.csv")[1:] == [
        ["0", "bee", "0.6", ""],
        ["3", "", "", "unreadable"],
        ["4", "ant", "1", ""],
    ]


class Counts(NamedTuple):
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    count: Tensor
    share: Tensor
    seen: Tensor


def test_other_fields_have_their_integers_whole() -> None:
    rows = FieldRows(1)
    rows.add(Counts(torch.tensor([0]), torch.tensor([1234567]), torch.tensor([1 / 3]), torch.tensor([True])))
    task = Known()
    task.trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    rows.gather(task)
    assert list(rows.rows(task)) == [(0, ["1234567", "0.333333", "1"])]


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output: cannot write '.*file/out.csv' \(Not a directory|File exists"):
        predict(PredictionWriter(tmp_path / "file" / "out.csv", 1))
    with pytest.raises(UserError, match=r"output: '.*' is a folder; write the name of a file"):
        predict(PredictionWriter(tmp_path, 1))


def test_a_prediction_without_rows_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(UserError, match=r"Unknown\.predict_step gives Tensor; to be written it must be a NamedTuple"):
        predict(PredictionWriter(tmp_path / "out.csv", 1), Unknown())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def predict_on_two_ranks(output: Path) -> None:
    trainer = Trainer(callbacks=PredictionWriter(output, 2), logger=False, accelerator="cpu", devices=2,
                      strategy="ddp", enable_progress_bar=False, use_distributed_sampler=False)  # fmt: skip
    trainer.predict(Known(), datamodule=FivePictures(4), return_predictions=False)


def test_two_ranks_write_one_file_in_order(tmp_path: Path) -> None:
    done = forked.call(predict_on_two_ranks, [tmp_path / "out.csv"], ranks=2)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "out.csv") == EXPECTED
    assert done.stdout.count("predictions  ") == 1
