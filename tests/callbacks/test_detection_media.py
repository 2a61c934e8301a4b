import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from callbacks.detection_media import DetectedBoxes, PrecisionCurves
from callbacks.drawn_boxes import drawn_boxes
from callbacks.prediction_writer import PredictionWriter
from datamodules.coco_detection import CocoDetectionDataModule, CocoFiles
from datamodules.detection import DetectionDataModule
from datamodules.facts import input_data
from tests import forked
from tests.datamodules.detection_data import coco
from toolkit.errors import UserError
from toolkit.types import DetectionBatch
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.detection_heads import Boxes, DetectorOutput
from toolkit.vision.networks.detector import Detector
from toolkit.vision.object_detection import ObjectDetection


class Oracle(Detector):
    """Finds all that there is, and in each image one box too many; without truth only that one."""

    in_channels, stride = 3, 1

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)

    def forward_maps(self, image: Tensor) -> dict[str, Tensor]:
        return {}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("box_loss",)

    def forward(
        self,
        image: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Boxes] | None = None,
        key: Tensor | None = None,
        detects: bool = True,
    ) -> DetectorOutput:
        extra = torch.tensor([[1.0, 2.0, 7.0, 5.0]])
        found = [
            {
                "boxes": torch.cat([truth["boxes"], extra]),
                "labels": torch.cat([truth["labels"], torch.tensor([1])]),
                "scores": torch.tensor([0.9] * len(truth["labels"]) + [0.4]),
            }
            for truth in targets or [{"boxes": extra[:0], "labels": torch.zeros(0, dtype=torch.int64)}] * len(image)
        ]
        return DetectorOutput({"box_loss": self.model.weight.sum()}, found if detects else [])


def data(root: Path) -> CocoDetectionDataModule:
    if not (root / "a.json").exists():
        coco(root)
    files = CocoFiles(str(root / "a.json"), str(root / "images"))
    return CocoDetectionDataModule(train=files, val=files, test=files, image_size=20, batch_size=4)


def task() -> ObjectDetection:
    half = [0.5] * 3
    return ObjectDetection(
        Oracle(),
        num_classes=2,
        class_names=["cat", "dog"],
        category_ids=[3, 7],
        image_size=(20, 20),
        pixel_mean=half,
        pixel_std=half,
    )


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**settings, **quiet, **options})


def table(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_pictures_and_tables_of_a_fit_and_a_test(tmp_path: Path) -> None:
    run = trainer(tmp_path, DetectedBoxes(count=5), PrecisionCurves())
    model = task()
    run.fit(model, datamodule=data(tmp_path))
    run.test(model, datamodule=data(tmp_path), verbose=False)
    for stage in ("val", "test"):
        (boxes,) = (tmp_path / "media" / stage / "boxes").iterdir()
        pixels = np.asarray(PIL.Image.open(boxes))
        # Images of 10x20 enlarged to 130x260, in two columns of pairs.
        assert pixels.shape == (3 * (130 + 6), 2 * (260 + 2 + 260 + 6), 3)
        (curve,) = (tmp_path / "media" / stage / "precision_recall").iterdir()
        assert np.asarray(PIL.Image.open(curve)).std() > 0
        (path,) = (tmp_path / "media" / stage / "average_precision").iterdir()
        rows = table(path)
        assert rows[0] == ["class", "ap", "ap_50", "ap_75", "recall_50", "boxes"]
        assert rows[1] == ["cat", "", "", "", "", "0"]  # the only cats are in crowds
        assert rows[2] == ["dog", "1.0000", "1.0000", "1.0000", "1.0000", "8"]


def test_the_check_before_the_first_epoch_is_no_validation(tmp_path: Path) -> None:
    run = trainer(tmp_path, PrecisionCurves(), check_val_every_n_epoch=2)
    run.fit(task(), datamodule=data(tmp_path))
    assert run.current_epoch == 1
    assert not (tmp_path / "media" / "val").exists()


def test_of_a_validation_of_its_own(tmp_path: Path) -> None:
    trainer(tmp_path, DetectedBoxes(), PrecisionCurves()).validate(task(), datamodule=data(tmp_path), verbose=False)
    assert {path.name for path in (tmp_path / "media" / "val").iterdir()} == {
        "boxes",
        "average_precision",
        "precision_recall",
    }


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    other = ImageClassification(nn.Linear(1, 1), num_classes=2)
    for callback in (DetectedBoxes(), PrecisionCurves()):
        with pytest.raises(UserError, match=r"draws ObjectDetection, got ImageClassification; remove it"):
            callback.setup(trainer(tmp_path), other, "fit")
    with pytest.raises(UserError, match="count: need at least 1"):
        DetectedBoxes(count=0)


def test_a_drawn_box_is_where_it_says() -> None:
    picture = drawn_boxes(torch.zeros(1, 128, 256, dtype=torch.uint8), torch.tensor([[10.0, 20, 50, 60]]), [0], [""])
    painted = picture.any(axis=2)
    assert np.flatnonzero(painted.any(axis=0)).tolist() == list(range(10, 50))
    assert np.flatnonzero(painted.any(axis=1)).tolist() == list(range(20, 60))
    assert not painted[22:58, 12:48].any()
    assert drawn_boxes(torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(0, 4), [], []).shape == (256, 256, 3)


def predict(folder: Path, module: DetectionDataModule, **options: Any) -> None:
    writer = PredictionWriter(folder / "found.csv")
    trainer(folder, writer, **options).predict(task(), datamodule=module, return_predictions=False)


def test_predictions_are_rows_coco_s_json_and_pictures(tmp_path: Path) -> None:
    predict(tmp_path, data(tmp_path))
    rows = table(tmp_path / "found.csv")
    assert rows[0] == ["path", "class", "score", "left", "top", "right", "bottom", "error"]
    assert rows[3] == [str(tmp_path / "images" / "2.png"), "dog", "0.4", "2.00", "4.00", "14.00", "10.00", ""]
    assert len(rows) == 13
    records = json.loads((tmp_path / "found.json").read_text())
    assert len(records) == 12
    expected = {"image_id": 120, "file_name": "2.png", "category_id": 7, "bbox": [2.0, 4.0, 12.0, 6.0], "score": 0.4}
    assert records[2] == expected
    drawn = sorted(path.name for path in (tmp_path / "found_drawn").iterdir())
    assert drawn[:2] == ["000000_0.jpg", "000001_1.jpg"]
    assert len(drawn) == 12


def predict_on_two_ranks(folder: Path) -> None:
    predict(folder, data(folder), strategy="ddp", devices=2)


def test_predictions_are_the_same_on_two_ranks(tmp_path: Path) -> None:
    predict(tmp_path, data(tmp_path))
    one = [(tmp_path / name).read_text() for name in ("found.csv", "found.json")]

    done = forked.call(predict_on_two_ranks, [tmp_path], ranks=2)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_text() for name in ("found.csv", "found.json")] == one


def test_files_and_folders_are_read_for_a_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path, count=3)
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    module = input_data(task(), [str(tmp_path / "images"), str(tmp_path / "images" / "0.png")], 2, 0)
    assert isinstance(module, DetectionDataModule)
    with pytest.warns(UserWarning, match=r"cannot read '.*1\.png'"):
        (first, _) = module.predict_dataloader()
    assert isinstance(first, DetectionBatch)
    assert first.original_size.tolist() == [[20, 40], [20, 20]]
    with pytest.warns(UserWarning, match=r"cannot read '.*1\.png'"):
        predict(tmp_path, input_data(task(), [str(tmp_path / "images")], 2, 0))  # type: ignore[arg-type]
    assert "3 rows, 1 unreadable" in capsys.readouterr().out
    assert {record["image_id"] for record in json.loads((tmp_path / "found.json").read_text())} == {"0.png", "2.png"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--input: no images in"):
        input_data(task(), [str(tmp_path / "empty")], 2, 0)
