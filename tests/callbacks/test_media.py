import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from callbacks.media import Image, Media, Table, log_media
from tests.conftest import ROOT

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
TABLE = Table(["a", "b"], [[1, "x, y"], [2, "z"]])


def trainer(folder: Path, *loggers: Logger, **options: Any) -> Trainer:
    return Trainer(default_root_dir=folder, logger=list(loggers), accelerator="cpu", enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip


@pytest.mark.parametrize("pixels", [PIXELS, torch.from_numpy(PIXELS)], ids=["array", "tensor"])
def test_an_image_is_a_png_below_the_run_folder(pixels: Any, tmp_path: Path) -> None:
    log_media(trainer(tmp_path), "val/some", Image(pixels))
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "media/val/some/00000000.png")), PIXELS)
    assert len(list((tmp_path / "media/val/some").iterdir())) == 1


def test_a_table_is_a_csv(tmp_path: Path) -> None:
    log_media(trainer(tmp_path), "val/some", TABLE)
    with open(tmp_path / "media/val/some/00000000.csv") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "x, y"], ["2", "z"]]


def test_a_figure_is_drawn_without_pyplot(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50, facecolor=(1, 0, 0))
    image = Image.of_figure(figure)
    assert image.pixels.shape == (50, 100, 3)
    assert image.pixels.reshape(-1, 3).max(axis=0).tolist() == [255, 0, 0]


def test_wrong_pixels_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        Image(PIXELS.astype(np.float32))
    with pytest.raises(AssertionError):
        Image(PIXELS[..., :1])


class Recorder:
    """Stands for a W&B run and for a SummaryWriter."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def log(self, values: dict[str, Any]) -> None:
        self.calls.append(values)

    def add_image(self, *args: Any, dataformats: str) -> None:
        self.calls.append((*args, dataformats))

    def add_text(self, *args: Any) -> None:
        self.calls.append(args)


class FakeWandb(WandbLogger):
    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder)
        self.run = Recorder()

    @property
    def experiment(self) -> Any:
        return self.run


class FakeTensorBoard(TensorBoardLogger):
    def __init__(self, folder: Path) -> None:
        self.run, self.folder = Recorder(), folder

    @property
    def experiment(self) -> Any:
        return self.run

    @property
    def log_dir(self) -> str:
        return str(self.folder)


def test_wandb_gets_the_object_with_the_step(tmp_path: Path) -> None:
    import wandb

    logger = FakeWandb(tmp_path)
    run = trainer(tmp_path, logger)
    log_media(run, "val/some", Image(PIXELS))
    log_media(run, "val/table", TABLE)
    image, table = logger.run.calls
    assert isinstance(image["val/some"], wandb.Image)
    assert table["val/table"].columns == ["a", "b"]
    assert table["val/table"].data == [[1, "x, y"], [2, "z"]]
    assert image["trainer/global_step"] == table["trainer/global_step"] == 0


def test_tensorboard_gets_image_and_text(tmp_path: Path) -> None:
    logger = FakeTensorBoard(tmp_path / "tb")
    run = trainer(tmp_path, logger)
    log_media(run, "val/some", Image(PIXELS))
    log_media(run, "val/table", TABLE)
    (key, pixels, step, layout), text = logger.run.calls
    assert (key, step, layout) == ("val/some", 0, "HWC")
    assert pixels.shape == (2, 3, 3)
    assert text == ("val/table", "a | b\n--- | ---\n1 | x, y\n2 | z", 0)
    assert (tmp_path / "tb/media/val/some/00000000.png").is_file()


def log_three(run: Trainer) -> None:
    log_media(run, "val/some", Image(PIXELS))
    log_media(run, "val/some", TABLE)
    log_media(run, "val/other", Image(PIXELS))


def test_a_disk_error_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where a folder should be")
    logger = FakeWandb(tmp_path)
    run = trainer(tmp_path, logger)
    with pytest.warns(UserWarning, match="pictures cannot be written") as told:
        log_three(run)
    assert len([w for w in told if "pictures" in str(w.message)]) == 1
    assert len(logger.run.calls) == 3


def test_a_fast_dev_run_leaves_no_files(tmp_path: Path) -> None:
    log_media(trainer(tmp_path, fast_dev_run=True), "val/some", Image(PIXELS))
    assert not list(tmp_path.iterdir())


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    log_media(trainer(tmp_path), "val/some", Image(PIXELS))
    assert not list(tmp_path.iterdir())


def test_every_kind_says_its_ending() -> None:
    assert {kind.ending for kind in Media.__subclasses__()} == {".png", ".csv", ".gif"}


def test_drawing_is_not_imported_before_something_is_drawn() -> None:
    code = (
        "import sys, callbacks.image_media, callbacks.media; "
        "sys.exit(','.join({'matplotlib', 'wandb', 'PIL.Image', 'PIL.ImageDraw'} & set(sys.modules) - before) or 0)"
    )
    before = "import sys, lightning.pytorch, torchmetrics.classification, torchvision; before = set(sys.modules); "
    done = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
