"""A folder of images without labels: what is read, and what tasks make of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli import main
from datamodules.digits import DigitsDataModule
from datamodules.semi_supervised import SemiSupervisedDataModule
from datamodules.unlabelled_folder import UnlabelledFolderDataModule
from toolkit.commands.toolkit_cli import ToolkitCLI
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL

QUICK = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", "--wandb.enabled=false"]  # fmt: skip
DATA = ["--data=UnlabelledFolderDataModule", "--data.root=pictures", "--data.image_size=8", "--data.batch_size=8"]
NET = ["--model.net=SmallCNN", "--model.net.widths=[4,8]"]
SIMCLR = ["--config=configs/selfsupervised/simclr_folder.yaml", *NET, "--model.augment=null", "--model.projection=[8,4]",
          *DATA, "--data.in_channels=1", "--data.num_workers=0", "--data.val_size=4", "--data.test_size=3", *QUICK]  # fmt: skip


def images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(len(str(folder)))
    for number in range(count):
        Image.fromarray(draw.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def module(root: Path, **options: Any) -> UnlabelledFolderDataModule:
    return UnlabelledFolderDataModule(str(root), image_size=8, batch_size=4, **options)


def sizes(data: UnlabelledFolderDataModule) -> list[int]:
    return [len(data.dataset(stage)) for stage in ("train", "val", "test")]


@pytest.mark.parametrize("folders", [{".": 20}, {"a": 3, "b/c/d": 5, ".": 12}, {"only": 20}, {"test": 10, "x": 10}])
def test_images_anywhere_below_are_split_here(tmp_path: Path, folders: dict[str, int]) -> None:
    for folder, count in folders.items():
        images(tmp_path / folder, count)
    data = module(tmp_path, val_size=0.2, test_size=3)
    assert sizes(data) == [14, 3, 3]
    assert (data.num_classes, data.class_names) == (1, ["image"])
    files = [file for stage in ("train", "val", "test") for file, _ in data._files[stage]]
    assert sorted(files) == sorted(tmp_path.rglob("*.png"))
    assert data._files == module(tmp_path, val_size=0.2, test_size=3)._files
    assert data._files != module(tmp_path, val_size=0.2, test_size=3, split_seed=1)._files
    assert all((batch.label == 0).all() for batch in data.train_dataloader())


def test_the_user_s_own_split_is_kept(tmp_path: Path) -> None:
    for folder, count in {"Train": 4, "Train/deeper": 2, "valid/x": 3, "test": 2}.items():
        images(tmp_path / folder, count)
    data = module(tmp_path)
    assert sizes(data) == [6, 3, 2]
    assert data.sample_name(1) == str(tmp_path / "test" / "1.png")


def test_validation_is_held_out_of_train_and_nothing_tested_where_there_is_no_folder(tmp_path: Path) -> None:
    images(tmp_path / "train", 20)
    data = module(tmp_path)
    assert [len(data.dataset(stage)) for stage in ("train", "val")] == [18, 2]
    with pytest.raises(UserError, match="no images to test on; add a folder"):
        data.dataset("test")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], r"holds no images, in itself or in folders below; name a folder with images"),
        (["train", "."], r"has train, and beside them images such as '0\.png'; move those into a split"),
        (["train", "bus"], r"beside them folders with images that are no further splits: \['bus'\].*rename its folder"),
    ],
)
def test_wrong_folders_are_explained(tmp_path: Path, folders: list[str], message: str) -> None:
    for folder in folders:
        images(tmp_path / folder, 3)
    with pytest.raises(UserError, match=message):
        module(tmp_path)


@pytest.mark.parametrize("in_memory", [False, True])
def test_unreadable_images_count_nowhere_if_asked(tmp_path: Path, in_memory: bool) -> None:
    images(tmp_path, 20)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    data = module(tmp_path, on_unreadable="skip", in_memory=in_memory, val_size=0.0, test_size=0.0)
    found = Counter(label for batch in data.train_dataloader() for label in batch.label.tolist())
    assert found == {0: 15, IGNORE_LABEL: 5}
    with pytest.raises(UserError, match=r"cannot read .*on_unreadable: skip"):
        list(module(tmp_path, in_memory=in_memory).train_dataloader())


def test_the_unlabelled_part_beside_labelled_images(tmp_path: Path) -> None:
    images(tmp_path, 20)
    data = SemiSupervisedDataModule(
        DigitsDataModule(), module(tmp_path, in_channels=1), batch_size=8, labelled_batch_size=4
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.unlabelled.image.shape == (8, 1, 8, 8)
    assert len(batch.labelled.label.unique()) > 1


@pytest.mark.parametrize("config", ["gan", "vae"])
def test_generative_models_learn_from_it(config: str, workdir: Path) -> None:
    images(workdir / "pictures", 24)
    made = main(["fit", f"--config=configs/generative/{config}_digits.yaml", *DATA, *QUICK])
    assert made.trainer.global_step == 2
    assert (made.run_folder / "checkpoints" / "best.ckpt").is_file()
    main(["sample", str(made.run_folder), "--count=2"])


def test_an_encoder_learns_without_a_best_checkpoint(
    workdir: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    images(workdir / "pictures", 27)
    made: ToolkitCLI = main(["fit", *SIMCLR, "--test_after_fit=true"])
    run = made.run_folder
    assert run is not None
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["last.ckpt"]
    assert caplog.text.count("the images have no labels, so nothing measures the encoder") == 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["checkpoint"] == str(run / "checkpoints" / "last.ckpt")
    assert (summary["monitor"], summary["best"]) == (None, None)
    assert "test/loss" in summary
    assert not any("knn" in name or "baseline" in name for name in summary)
    assert made.model.baseline(made.datamodule, "val") is None

    for verb, stage in (("validate", "val"), ("test", "test")):
        capsys.readouterr()
        main([verb, "--ckpt_path", str(run)])
        shown = capsys.readouterr().out
        assert f"{stage}/loss" in shown
        assert "knn" not in shown
    main(["predict", "--ckpt_path", str(run), "--output=features.csv"])
    assert len(Path("features.csv").read_text().splitlines()) == 1 + 3

    resumed = main(["resume", str(run), "--trainer.max_epochs=2"])
    assert resumed.trainer.global_step == 4
    tuned = main(["fit", "--config=configs/vision/classification_digits.yaml", *NET, *QUICK,
                  "--trainer.callbacks+=PretrainedBackbone", f"--trainer.callbacks.checkpoint={run}",
                  "--trainer.callbacks.freeze=true"])  # fmt: skip
    learned = dict(resumed.model.backbone.named_parameters())
    taken = {name: value for name, value in tuned.model.net.named_parameters() if not name.startswith("head")}
    assert taken
    assert all(torch.equal(value, learned[name]) for name, value in taken.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=configs/vision/classification_digits.yaml", *DATA, *QUICK], "model.init_args.num_classes: ImageClassification needs two or more classes, got 1; take a DataModule of labelled images, such as ImageFolderDataModule"),
        ([*SIMCLR, "--trainer.callbacks+=OnlineLinearProbe"], "OnlineLinearProbe: need labels of two or more classes, got 1 class"),
    ],
)  # fmt: skip
def test_what_needs_labels_is_refused(
    workdir: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    images(workdir / "pictures", 27)
    with pytest.raises(SystemExit):
        main(["fit", *words])
    assert message in capsys.readouterr().err
