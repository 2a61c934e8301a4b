"""torchrun starts the ranks again when one dies, and the run ends with the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.conftest import ROOT

FIT = ["--config", str(ROOT / "configs/vision/classification_digits.yaml"), "--trainer.accelerator=cpu",
       "--trainer.max_epochs=4", "--checkpoint.every_n_steps=7", "--wandb.enabled=false"]  # fmt: skip


class TearAndDie(Callback):
    """In the first start, rank 1 tears the newest checkpoint and kills itself."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and trainer.global_rank == 1 and trainer.global_step == 45:
            last = Path(os.environ["RUN"]) / "checkpoints" / "last.ckpt"
            os.truncate(last, last.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, *more: str) -> str:
    command = [str(ROOT / "configs/cluster/torchrun.sh"), str(folder), "2", *FIT, *more]
    env = os.environ | {"PYTHON": sys.executable, "RUN": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_killed_rank_and_a_torn_checkpoint(tmp_path: Path) -> None:
    assert "resume" not in run(tmp_path / "clean" / "a")
    assert "resume" in run(tmp_path / "killed" / "a", "--trainer.callbacks+=tests.test_torchrun.TearAndDie")
    clean, killed = (
        torch.load(tmp_path / name / "a/checkpoints/last.ckpt", weights_only=True) for name in ("clean", "killed")
    )
    assert clean["global_step"] == killed["global_step"]
    for name, weight in clean["state_dict"].items():
        assert torch.equal(weight, killed["state_dict"][name]), name
