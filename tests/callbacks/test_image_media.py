import csv
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

import callbacks.classification_media
import callbacks.image_media
from callbacks.classification_media import ConfusionMatrix
from callbacks.image_media import InputImages, Worst, WorstErrors, grid
from callbacks.media import Image, Media, Table
from datamodules.base import BaseDataModule, BatchedDataset
from datamodules.sampler import BatchIndex
from examples.parity import Parity
from tests import forked
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, ImageBatch, Stage
from toolkit.vision.image_classification import ImageClassification

LABEL = torch.tensor([0, 1, 2, 0, 1, 2, 2, IGNORE_LABEL])
GUESS = torch.tensor([0, 1, 1, 2, 1, 2, 0, 1])
LOGIT = torch.tensor([1.0, 2.0, 3.0, 5.0, 1.0, 2.0, 4.0, 9.0])  # sample 3 is the worst error, then 6, then 2
MATRIX = [[1, 0, 1], [0, 2, 0], [1, 1, 1]]


class Oracle(nn.Module):
    """Logits by the sample's number, which is in its first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        number = (image[:, 0, 0, 0] * 255).round().long()  # (B,)
        return self.scale * nn.functional.one_hot(GUESS[number], 3) * LOGIT[number, None]


class Eight(BaseDataModule, BatchedDataset):
    """Eight 2x2 images filled with their number; the last is unreadable."""

    def dataset(self, stage: Stage) -> BatchedDataset:
        return self

    def __len__(self) -> int:
        return 8

    def __getitem__(self, batch: BatchIndex) -> ImageBatch:
        image = batch.index.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
        return ImageBatch(image, LABEL[batch.index], batch.index, batch.index)


def task() -> ImageClassification:
    def still(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    return ImageClassification(Oracle(), 3, ["ant", "bee", "cat"], pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3,
                               optimizer=still)  # fmt: skip


def trainer(folder: Path, callback: Callback, **options: Any) -> Trainer:
    return Trainer(callbacks=callback, default_root_dir=folder, logger=False, accelerator="cpu",
                   enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, Media]]:
    """(step, key, what) of every picture, instead of files."""
    calls: list[tuple[int, str, Media]] = []
    for module in (callbacks.image_media, callbacks.classification_media):
        monkeypatch.setattr(module, "log_media", lambda run, key, media: calls.append((run.global_step, key, media)))
    return calls


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The counts of every matrix that is drawn."""
    counts: list[list[list[int]]] = []
    draw = callbacks.classification_media._confusion_figure

    def spy(matrix: np.ndarray, *args: Any) -> Any:
        counts.append(matrix.tolist())
        return draw(matrix, *args)

    monkeypatch.setattr(callbacks.classification_media, "_confusion_figure", spy)
    return counts


def test_input_images_are_what_the_network_gets(logged: list[Any], tmp_path: Path) -> None:
    model = task()
    trainer(tmp_path, InputImages(count=4), max_epochs=2).fit(model, datamodule=Eight(batch_size=4))
    ((step, key, image),) = logged
    assert (step, key) == (0, "train/input_images")
    order = [int(image.pixels[r, c, 0]) for r in (50, 150) for c in (50, 150)]
    expected = next(iter(Eight(batch_size=4).train_dataloader())).index.tolist()
    assert order == expected


def test_input_images_are_augmented_and_in_their_own_colours(logged: list[Any], tmp_path: Path) -> None:
    class Brighter(nn.Module):
        def forward(self, image: Tensor, key: Tensor) -> Tensor:
            return image + 100

    model = ImageClassification(Oracle(), 3, pixel_mean=[0.3, 0.4, 0.5], pixel_std=[0.1, 0.2, 0.3])
    model.augment = Brighter()  # type: ignore[assignment]
    batch = ImageBatch(torch.full((2, 3, 4, 4), 50, dtype=torch.uint8), *torch.zeros(3, 2, dtype=torch.int64))
    InputImages().on_train_batch_start(trainer(tmp_path, InputImages()), model, batch, 0)
    assert logged[0][2].pixels[10, 10].tolist() == [150, 150, 150]


def test_the_confusion_matrix_counts_the_last_validation(
    logged: list[Any], matrices: list[Any], tmp_path: Path
) -> None:
    run = trainer(tmp_path, ConfusionMatrix(), max_epochs=3)
    run.fit(task(), datamodule=Eight(batch_size=4))
    assert matrices == [MATRIX]
    assert [(step, key) for step, key, _ in logged] == [(6, "val/confusion_matrix")]
    run.test(task(), datamodule=Eight(batch_size=4), verbose=False)
    assert matrices == [MATRIX] * 2
    assert logged[-1][1] == "test/confusion_matrix"
    run.validate(task(), datamodule=Eight(batch_size=3), verbose=False)
    assert matrices == [MATRIX] * 3
    assert logged[-1][1] == "val/confusion_matrix"


def test_every_n_epochs_and_the_last_one_once(logged: list[Any], matrices: list[Any], tmp_path: Path) -> None:
    trainer(tmp_path, ConfusionMatrix(every_n_epochs=2), max_epochs=5).fit(task(), datamodule=Eight(batch_size=4))
    assert [step for step, _, _ in logged] == [4, 8, 10]
    logged.clear()
    trainer(tmp_path, ConfusionMatrix(every_n_epochs=2), max_epochs=4).fit(task(), datamodule=Eight(batch_size=4))
    assert [step for step, _, _ in logged] == [4, 8]


def test_no_validation_no_matrix(logged: list[Any], tmp_path: Path) -> None:
    trainer(tmp_path, ConfusionMatrix(), max_epochs=1, limit_val_batches=0).fit(task(), datamodule=Eight(batch_size=4))
    assert not logged


@pytest.mark.parametrize(("classes", "texts"), [(3, 6), (20, 20), (21, 0), (300, 0)])
def test_names_and_numbers_up_to_twenty_classes(classes: int, texts: int) -> None:
    counts = np.array(MATRIX) if classes == 3 else np.eye(classes, dtype=int)
    figure = callbacks.classification_media._confusion_figure(
        counts, [f"a class named {k}" for k in range(classes)], "title"
    )
    (axes,) = figure.axes
    assert len(axes.texts) == texts
    assert (len(axes.get_yticklabels()) == classes) == (texts > 0)
    side = Image.of_figure(figure).pixels.shape[0]
    assert 200 < side < 1300


def test_too_many_classes_draw_nothing(logged: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks.classification_media, "DRAWN", 2)
    trainer(tmp_path, ConfusionMatrix()).test(task(), datamodule=Eight(batch_size=4), verbose=False)
    assert not logged


def table(media: Media) -> list[list[Any]]:
    assert isinstance(media, Table)
    return media.rows


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_worst_errors_are_the_most_confident(batch_size: int, logged: list[Any], tmp_path: Path) -> None:
    run = trainer(tmp_path, WorstErrors(count=2))
    run.test(task(), datamodule=Eight(batch_size=batch_size), verbose=False)
    (_, key, image), (_, table_key, rows) = logged
    assert (key, table_key) == ("test/worst_errors", "test/worst_errors_table")
    p = [float(torch.tensor([logit, 0.0, 0.0]).softmax(0)[0]) for logit in (5.0, 4.0)]
    assert table(rows) == [["test[3]", "ant", "cat", pytest.approx(p[0], abs=1e-6)],
                           ["test[6]", "cat", "ant", pytest.approx(p[1], abs=1e-6)]]  # fmt: skip
    assert image.pixels[50, 50].tolist() == [3, 3, 3]
    assert image.pixels[50, 150].tolist() == [6, 6, 6]


def test_fewer_errors_than_places(logged: list[Any], tmp_path: Path) -> None:
    trainer(tmp_path, WorstErrors(), max_epochs=2).fit(task(), datamodule=Eight(batch_size=4))
    assert [row[0] for row in table(logged[-1][2])] == ["val[3]", "val[6]", "val[2]"]
    assert len(logged) == 2


def test_no_error_no_picture(logged: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "GUESS", LABEL.clamp(min=0))
    trainer(tmp_path, WorstErrors()).test(task(), datamodule=Eight(batch_size=4), verbose=False)
    assert not logged


def test_worst_keeps_no_more_than_asked() -> None:
    few = Worst(torch.tensor([0.2, 0.9, -1.0]), *torch.arange(9).view(3, 3), torch.zeros(3, 1, 2, 2)).top(2)
    assert few.probability.tolist() == pytest.approx([0.9, 0.2])
    assert few.index.tolist() == [7, 6]
    assert len(few.top(5).image) == 2


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((4, 1, 8, 8), (200, 200)),
        ((5, 3, 28, 28), (232, 348)),
        ((1, 3, 500, 250), (228, 116)),
        ((2, 4, 96, 96), (100, 200)),
    ],
)
def test_grid_makes_small_pictures_large_and_large_ones_small(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    assert grid(torch.zeros(shape, dtype=torch.uint8)).shape == (*size, 3)


def test_titles_leave_ink_below_their_picture() -> None:
    white = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    pixels = grid(white, ["кот ->\ndog 0.99", ""])
    below = pixels[98:]
    assert below[:, :100].min() < 100
    assert below[:, 100:].min() == 255


@pytest.mark.parametrize("callback", [InputImages, ConfusionMatrix, WorstErrors])
def test_other_tasks_are_refused(callback: type[Callback], tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    with pytest.raises(UserError, match=f"{callback.__name__}: draws ImageClassification.*, got Parity"):
        trainer(tmp_path, callback(), max_epochs=1).fit(Parity(net), datamodule=Eight(batch_size=4))


def test_wrong_numbers() -> None:
    with pytest.raises(UserError, match="every_n_epochs"):
        ConfusionMatrix(every_n_epochs=0)
    with pytest.raises(UserError, match="count"):
        WorstErrors(count=0)


def draw_on_two_ranks(folder: Path) -> None:
    trainer = Trainer(callbacks=[InputImages(), ConfusionMatrix(), WorstErrors(count=2)], logger=False, accelerator="cpu",
                      devices=2, strategy="ddp", enable_progress_bar=False, use_distributed_sampler=False, max_epochs=1,
                      enable_checkpointing=False, enable_model_summary=False, default_root_dir=folder)  # fmt: skip
    trainer.fit(task(), datamodule=Eight(batch_size=4))


def test_two_ranks_draw_what_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run = trainer(one, ConfusionMatrix(), max_epochs=1)
    run.fit(task(), datamodule=Eight(batch_size=4))
    done = forked.call(draw_on_two_ranks, [two], ranks=2)
    assert done.returncode == 0, done.stderr
    matrix = "media/val/confusion_matrix/00000002.png"
    assert np.array_equal(*(np.asarray(PIL.Image.open(folder / matrix)) for folder in (one, two)))
    with open(two / "media/val/worst_errors_table/00000002.csv") as file:
        assert [row[0] for row in csv.reader(file)] == ["sample", "val[3]", "val[6]"]
    assert (two / "media/train/input_images/00000000.png").is_file()
