import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit import checkpoint_io
from toolkit.checkpoint_io import (
    DurableCheckpointIO,
    checkpoint_path,
    has_changed,
    make_room,
    newest_valid,
    remove_stale,
    write,
)
from toolkit.errors import UserError

CONTENT = {"state_dict": {"w": torch.arange(1000.0)}, "epoch": 3}


def test_what_is_written_is_read_back_by_us_and_by_torch(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.ckpt"
    DurableCheckpointIO().save_checkpoint(CONTENT, path)
    for content in (DurableCheckpointIO().load_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert not has_changed(path)
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_every_flipped_bit_and_every_missing_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write(CONTENT, path)
    whole = path.read_bytes()
    draw = random.Random(0)
    places = [draw.randrange(len(whole)) for _ in range(200)] + list(range(len(whole) - 80, len(whole)))
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        assert has_changed(path), f"byte {place} of {len(whole)}"
    for length in [0, 1, 21, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert has_changed(path), f"{length} bytes of {len(whole)}"
    with pytest.raises(UserError, match=r"a\.ckpt.*damaged"):
        DurableCheckpointIO().load_checkpoint(path)


def test_a_checkpoint_of_plain_torch_is_taken_as_it_is(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "plain.ckpt")
    assert not has_changed(tmp_path / "plain.ckpt")


def test_the_newest_whole_one_is_found_and_the_damaged_one_named(tmp_path: Path) -> None:
    for number, name in enumerate(("last-3", "last-2", "last", "best")):
        write(CONTENT, tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", ns=(number, number))
    assert newest_valid(tmp_path) == tmp_path / "last.ckpt"
    for name, next_one in (("last", "last-2"), ("last-2", "last-3"), ("last-3", "best")):
        file = tmp_path / f"{name}.ckpt"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.warns(UserWarning, match=r"\.ckpt' is damaged and left out"):
            assert newest_valid(tmp_path) == tmp_path / f"{next_one}.ckpt"
    for name in ("last", "last-2", "last-3"):
        (tmp_path / f"{name}.ckpt").unlink()
    assert newest_valid(tmp_path) is None  # a run that was killed before its first step boundary begins anew


@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_previous_one_and_nothing_else(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    write(CONTENT, path)
    before = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    if when == "write":
        monkeypatch.setattr(checkpoint_io._HashingFile, "write", full)
    else:
        monkeypatch.setattr(checkpoint_io.os, when, full)
    with (
        pytest.warns(UserWarning, match=r"No space left.*1 tries left"),
        pytest.raises(UserError, match=r"a\.ckpt.*No space left.*stood there before is intact"),
    ):
        DurableCheckpointIO(retries=1, wait=0).save_checkpoint({"epoch": 4}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_left_overs_of_a_crash_are_removed(tmp_path: Path) -> None:
    for name in (".a.ckpt.123.tmp", "a.ckpt", ".other"):
        (tmp_path / name).touch()
    remove_stale(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".other", "a.ckpt"]


def test_killed_while_saving_there_is_always_a_whole_one(tmp_path: Path) -> None:
    """Fifty processes are killed while they write one checkpoint after the other."""
    draw = random.Random(0)
    weights = torch.randn(300_000)
    newest, kills = -1, 0
    while kills < 50 or newest <= 50:  # on a busy machine many die before they have written anything
        kills += 1
        assert kills < 2000
        child = os.fork()
        if child == 0:
            for step in range(newest + 1, newest + 10_000):
                make_room(tmp_path, "last", 1, keep=2)
                write({"step": step, "w": weights}, checkpoint_path(tmp_path, "last", 1))
            os._exit(0)
        time.sleep(draw.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (found := newest_valid(tmp_path)) is not None:  # any damaged one would be an error by its warning
            step = torch.load(found, weights_only=True)["step"]
            assert step >= newest
            newest = step
        remove_stale(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} <= {"last.ckpt", "last-2.ckpt"}
