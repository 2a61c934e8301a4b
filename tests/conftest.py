"""What every test runs under: one thread, no W&B server, a folder of its own, nothing left behind."""

import os
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log handler keeps the stderr of the import, which must outlive a test's
import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
if os.environ.get("TEST_ACCELERATOR", "cpu") == "cpu":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
torch.set_num_threads(1)

ACCELERATOR = os.environ.get("TEST_ACCELERATOR", "cpu")
"""Where conformance, configs and learning run: "gpu" on a machine that has one."""
PRECISION = os.environ.get("TEST_PRECISION", "32-true")
"""In what the configs run."""

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which nothing but `configs/` and `examples/` of the project lies."""
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path
