"""The command line, driven as a user drives it."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cli import VERBS, main
from tests.conftest import ROOT

DIGITS = ["--config", "configs/vision/classification_digits.yaml"]
QUICK = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", "--wandb.enabled=false"]  # fmt: skip


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a command that must end with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    message = error[error.rindex("error: ") :]
    for noise in ("Traceback", "Union", "Subtypes", "usage:", "<class"):
        assert noise not in message
    return message


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.batch_sze", "3"], "data: unknown key 'batch_sze'. Did you mean 'batch_size'?"),
        (["--data.batch_size", "three"], "data.init_args.batch_size: expected int, got 'three'."),
        (["--model", "ImageClasification"], "model: unknown class 'ImageClasification'. Did you mean 'ImageClassification'?"),
        (["--model.net", "SmalCNN"], "model.init_args.net: unknown class 'SmalCNN'. Did you mean 'SmallCNN'?"),
        (["--model.net.dropot", "0"], "model.init_args.net: unknown key 'dropot'. Did you mean 'dropout'?"),
        (["--model.net.dropout", "x"], "model.init_args.net.init_args.dropout: expected float, got 'x'."),
        (["--model.optimizer", "Adamm"], "model.init_args.optimizer: unknown class 'Adamm'. Did you mean 'Adam'?"),
        (["--model.scheduler", "WarmupCosin"], "unknown class 'WarmupCosin'. Did you mean 'WarmupCosine'?"),
        (["--model.scheduler_config.interval", "stp"], "model.init_args.scheduler_config.interval: expected one of 'step', 'epoch', got 'stp'."),
        (["--trainer.max_epoch", "3"], "trainer.max_epoch: unknown option. Did you mean 'trainer.max_epochs'?"),
        (["--trainer.max_epochs", "x"], "trainer.max_epochs: expected int, got 'x'."),
        (["--trainer.precision", "17"], "trainer.precision: expected one of 64, 32, 16"),
        (["--config", "configs/vision/classification_digit.yaml"], "no such file: 'configs/vision/classification_digit.yaml'. Did you mean 'configs/vision/classification_digits.yaml'?"),
        (["--data.batch_size", "0"], "need batch_size >= 1"),
        (["--data.batch_size", "100000"], "the global batch of 100000 is larger than the training split"),
        (["--model.label_smoothing", "2"], "need 0 <= label_smoothing < 1, got 2"),
        (["--seed_everything=-1"], "seed_everything: need a number from 0 to 4294967295, got -1."),
        (["--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches: need a positive number, got 0."),
        (["--trainer.overfit_batches=2"], "trainer.overfit_batches: got 2, which needs a loader without an order of its own; write --trainer.limit_train_batches 2"),
        (["--trainer.val_check_interval=1000"], "trainer.val_check_interval: got 1000, more than the 2 batches of an epoch; write at most 2, or"),
        (["--trainer.val_check_interval=1000", "--model.scheduler=null"], "trainer.val_check_interval: got 1000, more than the 2 batches"),
        (["--model.optimizer=SGD", "--model.optimizer.lr=-1"], "model.init_args.optimizer: torch refuses its arguments: Invalid learning rate: -1.0"),
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/los"], "EarlyStopping monitors 'val/los', which is not logged; write one of"),
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/los"], "Did you mean 'val/loss'?"),
        (["--ckpt_path", "nowhere"], "no such file or run folder: 'nowhere'"),
        (["--ckpt_path", "http://example.com/a.ckpt"], "only local files are read"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(
    args: list[str], expected: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(["fit", *DIGITS, *QUICK, *args], capsys)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"modell": {"a": 1}}, "modell: unknown key 'a'"),
        ({"model": {"init_args": {"net": {"init_args": {"dropot": 3}}}}}, "model.init_args.net: unknown key 'dropot'. Did you mean 'dropout'?"),
        ({"data": {"init_args": {"batch_size": [1]}}}, "data.init_args.batch_size: expected int, got '[1]'"),
        ({"data": {"class_path": "NPZDataModul"}}, "data: unknown class 'NPZDataModul'. Did you mean 'NPZDataModule'?"),
        ({"trainer": {"callbacks": [{"class_path": "callbacks.emaa.EMA"}]}}, "trainer.callbacks"),
        ("model: [", "is not YAML"),
    ],
)  # fmt: skip
def test_mistakes_in_a_config(config: object, expected: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    assert expected in refused(["fit", *DIGITS, "--config", "bad.yaml", *QUICK], capsys)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fitt"], "unknown verb 'fitt'"),
        (["fit"], "missing: data, model; name a config"),
        (["test"], "name one with --ckpt_path"),
        (["test", *DIGITS], "no run of 'classification_digits' with a checkpoint"),
        (["predict", "--ckpt_path", "text.ckpt"], "not readable as a checkpoint"),
        (["predict", *DIGITS, "--top_k", "none"], "top_k: expected a positive integer"),
    ],
)
def test_mistakes_of_other_verbs(
    args: list[str], expected: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.ckpt").write_text("no checkpoint")
    assert expected in refused(args, capsys)


def test_a_class_without_the_toolkit_s_base(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plain.py").write_text(
        "import lightning.pytorch as L\nclass Data(L.LightningDataModule): pass\nclass Model(L.LightningModule): pass\n"
    )
    for option, expected in (
        ("--data=plain.Data", "data: plain.Data is no subclass of datamodules.base.BaseDataModule; derive"),
        ("--model=plain.Model", "model: plain.Model is no subclass of toolkit.task.Task; derive"),
    ):
        assert expected in refused(["fit", *DIGITS, *QUICK, option], capsys)


def test_a_plateau_by_its_short_name_is_torch_s(workdir: Path) -> None:
    Path("more.yaml").write_text("model: {init_args: {scheduler: ReduceLROnPlateau}}\n")
    for words in (["--model.scheduler=ReduceLROnPlateau"], ["--config=more.yaml"]):
        made = main(["fit", *DIGITS, *words, "--model.scheduler.patience=3", "--model.scheduler.mode=max", *QUICK])
        scheduler = made.trainer.lr_scheduler_configs[0].scheduler
        assert type(scheduler) is torch.optim.lr_scheduler.ReduceLROnPlateau
        assert scheduler.patience == 3


def test_a_fit_without_a_logger(workdir: Path) -> None:
    made = main(["fit", *DIGITS, *QUICK, "--trainer.logger=false"])
    assert not made.trainer.loggers
    assert (made.run_folder / "checkpoints" / "best.ckpt").is_file()


def test_exit_code_of_the_process(workdir: Path) -> None:
    """A real process: one message, exit code 2, nothing written."""
    command = [sys.executable, str(ROOT / "cli.py"), "fit", *DIGITS, "--data.batch_sze=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workdir)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: data: unknown key 'batch_sze'. Did you mean 'batch_size'?"
    assert not Path("runs").exists()


def test_fit_test_predict_from_the_newest_run(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = main(["fit", *DIGITS, *QUICK])
    closing = capsys.readouterr().out
    for label in ("run ", "best ", "majority class", "checkpoint ", "next "):
        assert label in closing
    tested = main(["test", *DIGITS, "--trainer.accelerator=cpu"])
    summary = json.loads((fitted.run_folder / "summary.json").read_text())
    assert float(tested.trainer.callback_metrics["test/acc"]) == pytest.approx(summary["test/acc"])
    assert "majority class" in capsys.readouterr().out
    validated = main(["validate", str(fitted.run_folder), "--trainer.accelerator=cpu"])
    assert float(validated.trainer.callback_metrics["val/acc"]) == pytest.approx(summary["best"])
    main(["predict", *DIGITS, "--output", "out.csv", "--trainer.accelerator=cpu"])
    lines = Path("out.csv").read_text().splitlines()
    assert len(lines) == 1 + len(fitted.datamodule.dataset("test"))
    assert str(Path("out.csv")) in capsys.readouterr().out
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("digit.png")
    words = ["--runs", "runs", "--input", "digit.png", "--output", "one.csv"]
    main(["predict", *DIGITS, *words, "--config", "configs/trainer/cpu.yaml"])
    assert len(Path("one.csv").read_text().splitlines()) == 2
    Path("wrong.yaml").write_text("trainer: {accelerator: abacus}\n")
    with pytest.raises(SystemExit, match="2"):
        main(["predict", *DIGITS, *words, "--config", "configs/trainer/cpu.yaml", "--config", "wrong.yaml"])
    assert "abacus" in capsys.readouterr().err


def test_two_runs_in_one_second_do_not_collide(workdir: Path) -> None:
    folders = {main(["fit", *DIGITS, *QUICK]).run_folder for _ in range(2)}
    assert len(folders) == 2
    for folder in folders:
        assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_configs_merge_and_flags_win(workdir: Path) -> None:
    Path("more.yaml").write_text("data: {init_args: {batch_size: 32}}\ntrainer: {max_epochs: 7}\n")
    made = main(["fit", *DIGITS, "--config", "more.yaml", *QUICK])
    stored = yaml.safe_load((made.run_folder / "config.yaml").read_text())
    assert stored["data"]["init_args"]["batch_size"] == 32
    assert stored["trainer"]["max_epochs"] == 1
    assert "num_classes" not in stored["model"]["init_args"]


def test_print_config_shows_the_merged_config(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *DIGITS, "--data.batch_size=17", "--print_config"])
    assert stopped.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["batch_size"] == 17


def test_optimizer_and_scheduler_come_from_yaml(workdir: Path) -> None:
    Path("more.yaml").write_text(
        yaml.safe_dump(
            {
                "model": {
                    "init_args": {
                        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
                        "scheduler": {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
                                      "init_args": {"monitor": "val/loss", "mode": "max", "patience": 3}},
                        "scheduler_config": {"interval": "epoch", "frequency": 2, "monitor": "val/acc"},
                    }
                }
            }
        )
    )  # fmt: skip
    made = main(["fit", *DIGITS, "--config", "more.yaml", *QUICK])
    assert isinstance(made.trainer.optimizers[0], torch.optim.SGD)
    config = made.trainer.lr_scheduler_configs[0]
    assert (config.interval, config.frequency, config.monitor) == ("epoch", 2, "val/acc")
    assert config.scheduler.patience == 3


def test_a_value_that_is_stated_is_not_replaced_by_a_link(workdir: Path) -> None:
    """The data has ten classes; a network told to have twelve keeps them, and the task explains the mismatch."""
    with pytest.raises(SystemExit):
        main(["fit", *DIGITS, *QUICK, "--model.net.num_classes=12"])
    made = main(["fit", *DIGITS, *QUICK, "--model.net.num_classes=12", "--model.num_classes=12", "--model.class_names=null"])  # fmt: skip
    assert made.model.num_classes == 12
    assert main(["test", str(made.run_folder), "--trainer.accelerator=cpu"]).model.num_classes == 12


def test_early_stopping_and_callbacks_append(workdir: Path) -> None:
    stop = (
        "--trainer.callbacks+={class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 1, min_delta: 100}}"
    )
    made = main(["fit", *DIGITS, *QUICK, "--trainer.max_epochs=20", stop])
    assert made.trainer.current_epoch == 2


def test_a_finished_run_is_extended(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = main(["fit", *DIGITS, *QUICK])
    second = main(["fit", *DIGITS, *QUICK, "--trainer.max_epochs=3", f"--ckpt_path={first.run_folder}"])
    assert second.trainer.current_epoch == 3
    assert second.trainer.lr_scheduler_configs[0].scheduler.total_steps == 6


def test_users_own_task_in_another_package(workdir: Path) -> None:
    """A package in the working directory, named by its import path."""
    package = workdir / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    source = (ROOT / "examples" / "parity.py").read_text()
    (package / "task.py").write_text(source.replace("class Parity(", "class Mine("))
    command = [sys.executable, str(ROOT / "cli.py"), "fit", "--model=mine.task.Mine", "--model.net=SmallCNN",
               "--model.net.num_classes=1", "--data=DigitsDataModule", *QUICK]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=workdir)
    assert done.returncode == 0, done.stderr
    assert "val/auroc" in done.stdout


def test_offline_wandb_run_is_written_and_the_hint_printed(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(["fit", *DIGITS, *QUICK, "--wandb.enabled=true"])
    assert "wandb sync " in capsys.readouterr().out
    assert list((made.run_folder / "wandb").glob("offline-run-*/*.wandb"))


def test_wandb_that_cannot_start_costs_a_warning(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    start = wandb.init

    def broken(*args: object, mode: str, **kwargs: object) -> object:
        if mode == "disabled":
            return start(*args, mode=mode, **kwargs)
        raise wandb.errors.CommError("no server")

    monkeypatch.setattr(wandb, "init", broken)
    with pytest.warns(UserWarning, match="cannot start"):
        made = main(["fit", *DIGITS, *QUICK, "--wandb.enabled=true"])
    assert (made.run_folder / "checkpoints" / "best.ckpt").is_file()


@pytest.fixture
def pictures(workdir: Path) -> Path:
    """Two classes of twelve pictures."""
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (workdir / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(workdir / "pictures" / name / f"{number}.jpg")
    return workdir / "pictures"


FOLDER = ["fit", "--config", "configs/vision/classification_folder.yaml", *QUICK, "--data.root=pictures",
          "--data.batch_size=4", "--data.in_memory=false"]  # fmt: skip


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_jpeg_is_named_or_skipped(workers: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (pictures / "bee").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    args = [*FOLDER, f"--data.num_workers={workers}"]
    assert "data: cannot read 'pictures/bee/" in refused(args, capsys)
    with pytest.warns(UserWarning, match=r"data: skipped 'pictures/bee/\d+.jpg', which cannot be read"):
        main([*args, "--data.on_unreadable=skip"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.root=picture"], "no such file or folder: 'picture'. Did you mean 'pictures'?"),
        (["--data.root=pictures/ant"], "no class folder with images and 12 images in all"),
        (["--data.root=one"], "one class only ('ant')"),
        (["--data.in_channels=2"], "data.init_args.in_channels: expected one of 1, 3, got '2'."),
        (["--model.net.in_channels=1"], "in_channels: the network was built for 1, got images with 3"),
    ],
)
def test_wrong_folders(args: list[str], expected: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one").mkdir()
    Path("one/ant").symlink_to(pictures / "ant")
    assert expected in refused([*FOLDER, *args], capsys)


def test_labels_out_of_range(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = np.zeros((8, 28, 28), dtype=np.uint8), np.arange(8) % 2
    np.savez("data.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels + 5)
    args = ["fit", "--config", "configs/vision/classification_npz.yaml", "--data.path=data.npz", *QUICK]
    assert "test_labels must lie in 0..1, it also has [5, 6]" in refused(args, capsys)


@pytest.mark.parametrize(
    "config",
    [
        {"trainer": {"callbacks": [{"class_path": "evil.Evil"}]}},
        {"model": {"class_path": "evil.Evil"}},
        {"model": {"init_args": {"optimizer": "evil.Evil"}}},
        {"model": {"init_args": {"net": {"class_path": "evil.Evil", "init_args": {"a": 1}}}}},
        {"data": {"class_path": "os.system", "init_args": {"command": "touch harmed"}}},
        {"model": {"init_args": {"optimizer": {"class_path": "os.system", "init_args": {"command": "touch harmed"}}}}},
        {"model": {"init_args": {"optimizer": {"class_path": "torch.serialization.os.system"}}}},
        {"trainer": {"callbacks": "evil.Evil"}},
    ],
)
def test_a_config_cannot_import_what_it_likes(
    config: dict[str, object], workdir: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "evil.py").write_text("import pathlib\npathlib.Path('harmed').touch()\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(elsewhere)
    Path("bad.yaml").write_text(yaml.safe_dump(config))
    refused(["fit", *DIGITS, "--config", "bad.yaml", *QUICK], capsys)
    assert not Path("harmed").exists()


def test_a_package_that_the_user_names_is_allowed(
    workdir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "good.py").write_text("import lightning.pytorch\nclass Good(lightning.pytorch.Callback): pass\n")
    monkeypatch.syspath_prepend(elsewhere)
    words = ["fit", *DIGITS, *QUICK, "--trainer.callbacks=good.Good", "--trainer.fast_dev_run=true"]
    assert "If you trust it, add --allow good." in refused(words, capsys)
    made = main([*words, "--allow", "good"])
    assert "Good" in [type(callback).__name__ for callback in made.trainer.callbacks]


def test_no_secret_lands_in_anything_that_a_run_writes(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Canaries in environment, command line and config; W&B's files are searched too."""
    canaries = ["canary-from-the-environment", "hf_canaryfromthecommandline1", "canary-from-the-config"]
    monkeypatch.setenv("SOME_API_KEY", canaries[0])
    Path("more.yaml").write_text(
        yaml.safe_dump(
            {"model": {"init_args": {"class_names": [canaries[1], *"123456789"]}}, "wandb": {"tags": [canaries[0]]}}
        )
    )
    Path("net.py").write_text(
        "from toolkit.nn.mlp import MLP\n"
        "class Net(MLP):\n"
        "    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], password: str) -> None:\n"
        "        super().__init__(num_classes, in_channels, image_size)\n"
    )
    words = [
        "--config",
        "more.yaml",
        "--model.net=net.Net",
        f"--model.net.password={canaries[2]}",
        "--wandb.enabled=true",
    ]
    made = main(["fit", *DIGITS, *QUICK, *words])
    written = [file for file in made.run_folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in written)
    for file in written:
        content = file.read_bytes()
        for canary in canaries:
            assert canary.encode() not in content, f"{canary} in {file}"


def test_no_secret_that_a_class_of_one_s_own_saves_lands_anywhere(workdir: Path) -> None:
    Path("own.py").write_text(
        "from datamodules.digits import DigitsDataModule\n"
        "from toolkit.vision.image_classification import ImageClassification\n"
        "class Data(DigitsDataModule):\n"
        "    def __init__(self, api_key: str = '', batch_size: int = 64) -> None:\n"
        "        super().__init__(batch_size=batch_size)\n"
        "        self.save_hyperparameters()\n"
        "class Model(ImageClassification):\n"
        "    def __init__(self, password: str, **more) -> None:\n"
        "        super().__init__(**more)\n"
        "        self.save_hyperparameters()\n"
    )
    words = ["--data=own.Data", "--data.api_key=canary-of-the-data", "--model=own.Model"]
    more = ["--model.password=canary-of-the-model", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs",
            "--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=weights",
            "--trainer.callbacks.save_weights_only=true"]  # fmt: skip
    made = main(["fit", *DIGITS, *QUICK, *words, *more])
    assert made.datamodule.hparams["api_key"] == "canary-of-the-data"
    (logged,) = Path("logs").rglob("hparams.yaml")
    assert yaml.safe_load(logged.read_text())["data"]["init_args"] == {"api_key": "***", "batch_size": 64}
    stored = torch.load(made.run_folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["datamodule_hyper_parameters"]["api_key"] == "***"
    assert list(Path("weights").glob("*.ckpt"))
    for file in [file for folder in ("runs", "logs", "weights") for file in Path(folder).rglob("*")]:
        assert file.is_dir() or b"canary-of" not in file.read_bytes(), file


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    assert capsys.readouterr().out.startswith("usage: ")


def test_a_resume_with_other_batches_is_told(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(["fit", *DIGITS, *QUICK, "--test_after_fit=false"])
    capsys.readouterr()
    words = ["resume", str(made.run_folder), "--trainer.max_epochs=2", "--data.batch_size=32"]
    with pytest.warns(UserWarning, match=r"not exactly as it would have: batch_size 64 -> 32\.$"):
        main(words)
    told = capsys.readouterr().out
    assert "changed     data.init_args.batch_size: 64 -> 32" in told
    assert "changed     trainer.max_epochs: 1 -> 2" in told


def test_the_newest_run_of_a_config_is_resumed(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(["fit", *DIGITS, *QUICK, "--test_after_fit=false"])
    again = main(["fit", *DIGITS, *QUICK, "--test_after_fit=false", "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert again.run_folder == made.run_folder.absolute() or again.run_folder == made.run_folder
    assert again.trainer.current_epoch == 2
    with pytest.raises(SystemExit):
        main(["fit", "--config", "configs/vision/classification_mnist.yaml", "--ckpt_path=last"])
    assert "there is no run of 'classification_mnist'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--name=wide", "--runs=elsewhere"], ["--config=wide.yaml"]], ids=["options", "config"]
)
def test_a_named_run_is_found_by_its_name(words: list[str], workdir: Path) -> None:
    Path("wide.yaml").write_text("name: wide\nruns: elsewhere\n")
    words = [*DIGITS, *words]
    fit = ["fit", *words, *QUICK, "--test_after_fit=false"]
    named = main(fit)
    assert named.run_folder.parent == Path("elsewhere/wide")
    main(["fit", *DIGITS, *QUICK, "--runs=elsewhere", "--test_after_fit=false"])
    assert main([*fit, "--ckpt_path=last", "--trainer.max_epochs=2"]).run_folder == named.run_folder
    assert Path(main(["validate", *words, *QUICK]).trainer.default_root_dir).parent.parent == named.run_folder
    Image.new("L", (8, 8)).save("black.png")
    main(["predict", "--name=wide", "--runs=elsewhere", "--trainer.accelerator=cpu", "--input=black.png"])
    assert list(named.run_folder.glob("predict/*"))


def test_added_callbacks_are_there_once_when_the_newest_run_goes_on(workdir: Path) -> None:
    Path("average.yaml").write_text("trainer: {callbacks+: [{class_path: EMA}]}\n")
    words = ["fit", *DIGITS, "--config=average.yaml", *QUICK, "--test_after_fit=false"]
    made = main(words)
    again = main([*words, "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert again.run_folder == made.run_folder
    assert again.trainer.current_epoch == 2
    assert sum(type(callback).__name__ == "EMA" for callback in again.trainer.callbacks) == 1


def test_resume_needs_a_run_folder(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name the run folder" in refused(["resume"], capsys)
    assert "'nowhere' is no run folder" in refused(["resume", "nowhere"], capsys)


@pytest.mark.parametrize(
    "names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), ("LOCAL_RANK", "WORLD_SIZE")]
)
def test_an_error_names_its_rank(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in zip(names, ("1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.startswith("error on rank 1: unknown verb 'train'")
    monkeypatch.setattr("cli._run", lambda words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit"])
    assert capsys.readouterr().err == "failed on rank 1, with:\n"


def test_validate_with_nothing_to_validate_on(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule", "--wandb.enabled=false"]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0"]
    run = main(["fit", *words, *short, "--trainer.accelerator=cpu", "--test_after_fit=false"]).run_folder
    with pytest.raises(SystemExit):
        main(["validate", "--ckpt_path", str(run), "--trainer.accelerator=cpu"])
    assert "write --trainer.limit_val_batches 1.0" in capsys.readouterr().err
