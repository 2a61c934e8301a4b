import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit import checkpoint_io
from toolkit.asynchronous_checkpoint_io import AsynchronousCheckpointIO
from toolkit.errors import UserError


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is written before it is set."""
    gate, write = threading.Event(), checkpoint_io.write

    def wait_and_write(content: dict[str, Any], path: Path) -> None:
        assert gate.wait(20)
        write(content, path)

    monkeypatch.setattr(checkpoint_io, "write", wait_and_write)
    yield gate
    gate.set()


def test_what_is_written_is_what_was_there_when_asked(gate: threading.Event, tmp_path: Path) -> None:
    io, path = AsynchronousCheckpointIO(), tmp_path / "last.ckpt"
    weight, scores = torch.zeros(3), [1.0]
    io.save_checkpoint({"state_dict": {"weight": weight}, "scores": scores}, path)
    weight += 1
    scores.append(2.0)
    assert not path.exists()
    gate.set()
    io.teardown()
    assert torch.load(path, weights_only=True)["state_dict"]["weight"].tolist() == [0, 0, 0]
    assert torch.load(path, weights_only=True)["scores"] == [1.0]
    assert not checkpoint_io.has_changed(path)


def test_the_next_one_and_a_reader_wait(gate: threading.Event, tmp_path: Path) -> None:
    io, path = AsynchronousCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    threading.Timer(0.2, gate.set).start()
    io.save_checkpoint({"step": 2}, tmp_path / "next.ckpt")
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert io.load_checkpoint(tmp_path / "next.ckpt") == {"step": 2}
    io.teardown()


@pytest.mark.parametrize("then", ["save_checkpoint", "teardown"])
def test_a_failed_write_is_told_and_leaves_the_old_file(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io, path = AsynchronousCheckpointIO(retries=0), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    io.finish()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io.os, "fsync", full)
    io.save_checkpoint({"step": 2}, path)
    with pytest.raises(UserError, match=r"No space left on device.*what stood there before is intact"):
        io.teardown() if then == "teardown" else io.save_checkpoint({"step": 3}, path)
    io.teardown()
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_warnings_of_a_repeated_write_do_not_end_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path, fsync, calls = (
        AsynchronousCheckpointIO(retries=1, wait=0.0),
        tmp_path / "last.ckpt",
        checkpoint_io.os.fsync,
        [],
    )

    def once_full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(checkpoint_io.os, "fsync", once_full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        io.save_checkpoint({"step": 1}, path)
        io.teardown()
    assert any("trying again" in str(warning.message) for warning in caught)
    assert torch.load(path, weights_only=True) == {"step": 1}
