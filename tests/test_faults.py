"""Real faults in real processes: a full disk, a missing permission, a damaged file, a rank that hangs, W&B gone."""

import contextlib
import ctypes
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests import forked
from tests.conftest import ROOT
from tests.fake_wandb import fake_wandb
from tests.test_resume import CONFIG, same
from toolkit.checkpoint_io import has_changed, newest_valid

QUICKLY = ["--trainer.plugins=toolkit.checkpoint_io.DurableCheckpointIO", "--trainer.plugins.retries=1",
           "--trainer.plugins.wait=0.1"]  # fmt: skip


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "LEDGER": os.devnull, **options.pop("env", {})}
    if not options:
        return forked.run(words, env=env)
    command = [sys.executable, str(ROOT / "cli.py"), *words]  # what it may do is decided before it starts
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=200, **options)


def fit(folder: Path, fault: str = "", options: list[str] | None = None, **how: Any) -> Any:
    config = {**CONFIG, "trainer": {**CONFIG["trainer"]}}
    config["trainer"]["callbacks"] = [CONFIG["trainer"]["callbacks"][0], {"class_path": "tests.fault.Fault"}]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    how["env"] = {"FAULT": fault, **how.get("env", {})}
    return run(["fit", "--config", str(folder / "config.yaml"), f"--runs={folder}", *(options or [])], **how)


def run_folder(folder: Path) -> Path:
    (found,) = (path for path in folder.glob("*/*/") if (path / "command.txt").exists())
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run without faults and without W&B, and how long it took."""
    folder, started = tmp_path_factory.mktemp("whole"), time.monotonic()
    done = fit(folder)
    assert done.returncode == 0, done.stderr
    return run_folder(folder), time.monotonic() - started


# The disk -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB; mounting one needs root, and a user name space gives it where that is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(small_disk: Path, whole: tuple[Path, float]) -> None:
    done = fit(small_disk, "full", QUICKLY)
    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr
    assert "what stood there before is intact" in done.stderr
    assert "Traceback" not in done.stderr
    folder = run_folder(small_disk)
    checkpoint = newest_valid(folder / "checkpoints")
    assert checkpoint == folder / "checkpoints" / "last.ckpt"
    (folder / "filler").unlink()
    resumed = run(["resume", str(folder)])
    assert resumed.returncode == 0, resumed.stderr
    same(whole[0], folder)


@pytest.mark.parametrize("size", [60, 20_000], ids=["its record does not fit", "its checkpoint does not fit"])
def test_a_file_may_not_grow(size: int, tmp_path: Path) -> None:
    """The same where nothing can be mounted: the process may not write files of more bytes."""
    done = fit(tmp_path, "", QUICKLY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((run_folder(tmp_path) / "checkpoints").glob("*.ckpt"))
    assert not list((run_folder(tmp_path) / "checkpoints").glob(".*"))


def _obey_permissions() -> None:
    """Root may write anywhere, unless this capability is taken from it."""
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_a_missing_permission_ends_the_run_and_leaves_the_last_checkpoint(
    whole: tuple[Path, float], tmp_path: Path
) -> None:
    done = fit(tmp_path, "forbidden", QUICKLY, preexec_fn=_obey_permissions)
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    folder = run_folder(tmp_path)
    assert not has_changed(folder / "checkpoints" / "last.ckpt")
    os.chmod(folder / "checkpoints", 0o700)
    resumed = run(["resume", str(folder)])
    assert resumed.returncode == 0, resumed.stderr
    same(whole[0], folder)


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip], ids=["truncated", "one bit flipped"])
def test_a_damaged_checkpoint_is_left_out_loudly(
    damage: Callable[[Path], None], whole: tuple[Path, float], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "renamed")
    damage(tmp_path / "renamed" / "checkpoints" / "last.ckpt")
    resumed = run(["resume", str(tmp_path / "renamed")])
    assert resumed.returncode == 0, resumed.stderr
    assert "last.ckpt' is damaged and left out; the next older one is taken" in resumed.stderr
    assert "last-2.ckpt" in resumed.stdout
    same(whole[0], tmp_path / "renamed")


# Code in a checkpoint -------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("verb", ["test", "validate", "predict", "resume", "fit"])
def test_a_hostile_checkpoint_runs_nothing(verb: str, whole: tuple[Path, float], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    content = torch.load(whole[0] / "checkpoints" / "last.ckpt", weights_only=True)
    for name in ("best", "last"):
        torch.save({**content, "callbacks": {"x": Evil(tmp_path / "ran")}}, folder / "checkpoints" / f"{name}.ckpt")
    words = {
        "resume": [str(folder)],
        "fit": ["--config", "configs/vision/classification_digits.yaml", f"--ckpt_path={folder}", f"--runs={tmp_path}"],
    }.get(verb, [f"--ckpt_path={folder}"])
    done = run([verb, *words])
    assert done.returncode == 2, done.stderr
    assert "not readable as a checkpoint" in done.stderr
    assert not (tmp_path / "ran").exists()


# A rank that hangs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_rank_that_hangs(rank: int, tmp_path: Path) -> None:
    timeout = 15
    strategy = {
        "class_path": "DDPStrategy",
        "init_args": {"timeout": f"0:00:{timeout}", "process_group_backend": "gloo"},
    }
    (tmp_path / "hang.yaml").write_text(yaml.safe_dump({"trainer": {"strategy": strategy}}))
    started = time.monotonic()
    done = fit(tmp_path, f"hang {rank}", ["--config", str(tmp_path / "hang.yaml"), "--trainer.devices=2"])
    assert done.returncode not in (0, 75)
    assert time.monotonic() - started < 25 + timeout + 10  # of which some seconds for the training before
    assert not [p for p in Path("/proc").glob("[0-9]*") if str(tmp_path) in _command(p)]
    assert not has_changed(run_folder(tmp_path) / "checkpoints" / "last.ckpt")


def _command(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_text()
    return ""


# Weights & Biases -----------------------------------------------------------------------------------------------------

ONLINE = {"WANDB_API_KEY": "0123456789" * 4, "WANDB_MODE": "", "WANDB_SILENT": "true"}


@contextlib.contextmanager
def _wandb(kind: str) -> Iterator[dict[str, str]]:
    if kind == "no key":
        yield {"WANDB_API_KEY": "", "NETRC": os.devnull}
    elif kind == "refused":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            yield {**ONLINE, "WANDB_BASE_URL": f"http://127.0.0.1:{unused.getsockname()[1]}"}
    else:
        silent = {"silent": "", "slow to finish": "createRunFiles("}.get(kind)
        with fake_wandb(silent) as (server, address):
            yield {**ONLINE, "WANDB_BASE_URL": address}
        if kind in ("slow to finish", "killed"):
            assert len(server.names) == 1


@pytest.mark.parametrize(
    "kind",
    ["no key", "slow to finish", *(pytest.param(k, marks=pytest.mark.slow) for k in ("refused", "silent", "killed"))],
)
def test_wandb_is_never_in_the_way(kind: str, whole: tuple[Path, float], tmp_path: Path) -> None:
    with _wandb(kind) as env:
        started = time.monotonic()
        done = fit(tmp_path, "wandb" if kind == "killed" else "", ["--wandb.enabled=true"], env=env)
        seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert ("wandb: " in done.stderr) == (kind != "no key"), done.stderr
    same(whole[0], run_folder(tmp_path))
    assert seconds - whole[1] < 10
