"""Two processes on gloo with sharded weights give what DDP gives, and their checkpoints serve one process."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import toolkit
from cli import main
from tests import forked
from tests.test_resume import assert_equal
from toolkit.checkpoint import read_checkpoint
from toolkit.checkpoint_io import has_changed

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "ImageClassification",
        "init_args": {
            # an odd width, which two ranks cannot share equally
            "net": {"class_path": "ViT", "init_args": {"patch_size": 4, "dim": 33, "depth": 2, "heads": 3}},
            "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.003}},
            "scheduler": {"class_path": "WarmupCosine"},
        },
    },
    "data": {"class_path": "DigitsDataModule", "init_args": {"batch_size": 120}},
    "trainer": {
        "max_epochs": 4,
        "accelerator": "cpu",
        "log_every_n_steps": 3,
        "gradient_clip_val": 1.0,
        # the gradient of a key's bias is zero but for rounding, which Adam would make as large as any other in fp32
        "plugins": [{"class_path": "lightning.pytorch.plugins.DoublePrecision"}],
        "accumulate_grad_batches": 2,
        "callbacks": [{"class_path": "callbacks.ema.EMA", "init_args": {"decay": 0.8}}],
    },
    "wandb": {"enabled": False},
    "test_after_fit": True,
}
SHARDED = ["--config", "configs/trainer/fsdp_cpu.yaml"]
HALF = ["--trainer.max_epochs=2", "--model.scheduler.total_steps=20"]
"""Of the 20 optimizer steps of the config."""
ONE = ["--trainer.devices=1", "--trainer.strategy=auto"]


def call(words: list[str], expected: int = 0) -> str:
    done = forked.run(words)
    assert done.returncode == expected, done.stderr
    return done.stdout


def fit(folder: Path, *words: str, expected: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    call(["fit", "--config", str(folder / "config.yaml"), f"--runs={folder}", *words], expected)
    (run_folder,) = (path.parent for path in folder.glob("*/*/checkpoints"))
    return run_folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    return fit(tmp_path_factory.mktemp("sharded"), *SHARDED)


def rows(run_folder: Path) -> list[dict[str, float]]:
    with open(run_folder / "metrics.csv") as file:
        found = [
            {k: float(v) for k, v in row.items() if v and not k.startswith("perf/")} for row in csv.DictReader(file)
        ]
    return [row for row in found if len(row) > 1]


def same(one: Path, other: Path, tolerance: float = 1e-9) -> None:
    """Equal metrics and last checkpoints."""
    assert len(rows(one)) == len(rows(other)) > 10
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a == pytest.approx(b, abs=1e-6)  # torchmetrics counts in fp32
    contents = [read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (one, other)]
    for kind in ("state_dict", "current_model_state"):
        for name, weight in contents[0][kind].items():
            torch.testing.assert_close(weight, contents[1][kind][name], rtol=0, atol=tolerance, msg=name)


def test_sharded_equals_ddp(sharded: Path, tmp_path: Path) -> None:
    """Losses, metrics and weights, with averaged weights, clipping and accumulation."""
    ddp = fit(tmp_path / "ddp", "--config", "configs/trainer/ddp_cpu.yaml")
    assert (ddp / "checkpoints" / "last.ckpt").is_file()
    assert (sharded / "checkpoints" / "last.ckpt").is_dir()
    same(ddp, sharded)


def test_one_file_and_python_give_the_same(sharded: Path, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = main(["consolidate", str(sharded), "--output", "whole.ckpt"])
    assert "next        python cli.py test --ckpt_path whole.ckpt" in capsys.readouterr().out
    assert whole == Path("whole.ckpt")
    assert not has_changed(whole)
    a, b = toolkit.load(sharded), toolkit.load(whole)
    assert_equal(dict(a.state_dict()), dict(b.state_dict()), "weights")
    for name, path in (("folder.csv", str(sharded)), ("file.csv", "whole.ckpt")):
        main(["predict", "--ckpt_path", path, "--output", name, "--trainer.accelerator=cpu"])
    assert Path("folder.csv").read_text() == Path("file.csv").read_text()
    tested = main(["test", "--ckpt_path", "whole.ckpt", "--trainer.accelerator=cpu"]).trainer.callback_metrics
    assert float(tested["test/loss"]) == pytest.approx(rows(sharded)[-1]["test/loss"], abs=1e-6)


@pytest.mark.slow
def test_resumed_on_one_rank_from_folder_and_file(sharded: Path, tmp_path: Path) -> None:
    """A run that was stopped in the middle goes on, on one process without shards."""
    half = fit(tmp_path / "half", *SHARDED, *HALF)
    whole = main(["consolidate", str(half / "checkpoints" / "last.ckpt")])
    assert whole == half / "last.ckpt"
    call(["fit", "--config", str(tmp_path / "half" / "config.yaml"), "--ckpt_path", str(whole), "--runs",
          str(tmp_path / "file"), *HALF, "--trainer.max_epochs=4"])  # fmt: skip
    call(["resume", str(half), "--trainer.max_epochs=4", *ONE])
    assert (half / "checkpoints" / "last.ckpt").is_file()
    (from_file,) = (tmp_path / "file").glob("*/*")
    a, b, c = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (half, from_file, sharded))
    assert a["global_step"] == b["global_step"] == c["global_step"] == 20
    for name, weight in c["state_dict"].items():
        assert torch.equal(a["state_dict"][name], b["state_dict"][name])
        torch.testing.assert_close(a["state_dict"][name], weight, rtol=0, atol=1e-9, msg=name)


@pytest.mark.slow
def test_a_killed_sharded_run_resumes_bit_for_bit(sharded: Path, tmp_path: Path) -> None:
    ledger = {"path": str(tmp_path / "ledger.csv"), "kill_after": 29}
    kill = {"trainer": {"callbacks+": [{"class_path": "callbacks.ledger.Ledger", "init_args": ledger}]}}
    (tmp_path / "kill.yaml").write_text(yaml.safe_dump(kill))
    words = [*SHARDED, "--config", str(tmp_path / "kill.yaml"), "--checkpoint.every_n_steps=4"]
    killed = fit(tmp_path / "killed", *words, expected=-signal.SIGKILL)
    call(["resume", str(killed)])
    contents = [read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (sharded, killed)]
    for kind in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        assert_equal(contents[0][kind], contents[1][kind], kind)
    assert rows(sharded) == rows(killed)


@pytest.mark.slow
def test_a_single_file_goes_on_sharded(sharded: Path, tmp_path: Path) -> None:
    """The other way: begun by one process, resumed with shards."""
    one = fit(tmp_path / "one", *HALF)
    call(["resume", str(one), "--trainer.max_epochs=4", *SHARDED])
    assert (one / "checkpoints" / "last.ckpt").is_dir()
    a, b = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (one, sharded))
    for name, weight in a["state_dict"].items():
        torch.testing.assert_close(weight, b["state_dict"][name], rtol=0, atol=1e-9, msg=name)


def test_a_precision_that_cannot_be_sharded_is_refused(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "configs/vision/classification_digits.yaml", *SHARDED, "--trainer.precision=16-mixed"])
    assert stopped.value.code == 2
    assert "trainer: The `ModelParallelStrategy` does not support" in capsys.readouterr().err
