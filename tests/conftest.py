"""What every test runs under: one thread, no W&B server, a folder of its own, nothing left behind."""

import os
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log handler keeps the stderr of the import, which must outlive a test's
import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory in which `configs/` is that of the project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path
