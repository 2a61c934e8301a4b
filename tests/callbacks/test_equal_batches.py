"""On two real ranks: a user's own loaders that do not fit together."""

from pathlib import Path

import pytest

from tests import forked
from tests.conftest import ROOT

OWN_LOADERS = """
import os

from torch.utils.data import IterableDataset

from datamodules.digits import DigitsDataModule


class Batches(IterableDataset):
    def __init__(self, loader, number):
        self.loader, self.number = loader, number

    def __iter__(self):
        for _, batch in zip(range(self.number), self.loader):
            yield batch


class Stream(DigitsDataModule):
    def train_dataloader(self):
        return Batches(super().train_dataloader(), 5)


class Sized(Batches):
    def __len__(self):
        return self.number


class Uneven(DigitsDataModule):
    def train_dataloader(self):
        return Sized(super().train_dataloader(), 5 + int(os.environ.get("LOCAL_RANK", 0)))
"""


def run(data: str, folder: Path, *words: str) -> forked.Done:
    (folder / "loaders.py").write_text(OWN_LOADERS)
    words = ["fit", "--config", str(ROOT / "configs/vision/classification_digits.yaml"),
               "--config", str(ROOT / "configs/trainer/ddp_cpu.yaml"), f"--data=loaders.{data}", "--trainer.max_epochs=1",
               "--wandb.enabled=false", *words]  # fmt: skip
    return forked.run(words, cwd=folder, ranks=2)


def test_different_numbers_are_refused(tmp_path: Path) -> None:
    done = run("Uneven", tmp_path)
    assert done.returncode not in (0, None)
    assert "different numbers of training batches (rank 0: 5, rank 1: 6)" in done.stderr
    assert "set trainer.limit_train_batches to 5" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_unknown_number_is_refused_and_a_limit_helps(tmp_path: Path) -> None:
    done = run("Stream", tmp_path, "--model.scheduler=null")
    assert done.returncode not in (0, None)
    assert "the training loader has no length" in done.stderr
    assert run("Stream", tmp_path, "--trainer.limit_train_batches=5").returncode == 0
    assert run("Uneven", tmp_path, "--trainer.limit_train_batches=5").returncode == 0
