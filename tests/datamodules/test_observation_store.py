import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.observation_store import ObservationStore
from toolkit.errors import UserError


def store(folder: Path | None, slots: int = 6) -> ObservationStore:
    return ObservationStore(slots, (2,), torch.uint8, folder)


def write(to: ObservationStore, slots: range, value: int) -> None:
    for slot in slots:
        to.write(slot, np.full(2, value, np.uint8))


def test_in_memory_the_observations_are_in_the_state() -> None:
    first, second = store(None), store(None)
    write(first, range(4), 7)
    state = first.state_dict(4)
    write(first, range(4), 8)
    assert not second.load_state_dict(state).any()
    assert second.tensor[:, 0].tolist() == [7, 7, 7, 7, 0, 0]


def test_in_a_file_the_state_holds_none(tmp_path: Path) -> None:
    first = store(tmp_path / "new" / "folder")
    write(first, range(4), 7)
    state = first.state_dict(4)
    assert [*state] == ["stamp"]
    second = store(tmp_path / "new" / "folder")
    assert not second.load_state_dict(state).any()
    assert second.tensor[:, 0].tolist() == [7, 7, 7, 7, 0, 0]
    assert (tmp_path / "new" / "folder" / "observations.bin").stat().st_size == 12


def test_what_was_overwritten_since_is_lost(tmp_path: Path) -> None:
    first = store(tmp_path)
    write(first, range(5), 7)
    state = first.state_dict(5)
    write(first, range(1, 3), 7)  # the same value, but who knows
    write(first, range(5, 6), 9)
    assert store(tmp_path).load_state_dict(state).tolist() == [False, True, True, False, False]


def test_what_a_run_from_an_older_checkpoint_overwrote_is_lost_to_a_newer_one(tmp_path: Path) -> None:
    run = store(tmp_path)
    write(run, range(2), 1)
    older = run.state_dict(2)
    write(run, range(2, 6), 2)
    newer = run.state_dict(6)
    other = store(tmp_path)
    other.load_state_dict(older)
    write(other, range(2, 4), 3)
    assert store(tmp_path).load_state_dict(newer).tolist() == [False, False, True, True, False, False]


def test_all_is_lost_with_its_folder_even_if_another_run_has_filled_a_new_one(tmp_path: Path) -> None:
    run = store(tmp_path / "replay")
    write(run, range(4), 1)
    state = run.state_dict(4)
    shutil.rmtree(tmp_path / "replay")
    write(store(tmp_path / "replay"), range(4), 2)
    assert store(tmp_path / "replay").load_state_dict(state).all()


def test_a_state_from_memory_does_not_go_into_a_file_nor_back(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"buffer keeps its observations in memory, and this run's in a file; .*in_memory: true"
    ):
        store(tmp_path).load_state_dict(store(None).state_dict(2))
    with pytest.raises(UserError, match=r"in a file, and this run's in memory; .*in_memory: false"):
        store(None).load_state_dict(store(tmp_path).state_dict(2))


def test_files_of_another_buffer_are_refused(tmp_path: Path) -> None:
    store(tmp_path)
    with pytest.raises(UserError, match=r"has 12 bytes and should have 14.*another capacity.*delete the folder"):
        store(tmp_path, slots=7)


def test_more_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2, "SC_PAGE_SIZE": 4096}.__getitem__)
    with pytest.raises(UserError, match=r"5000 observations of 2 bytes.*smaller capacity, or write in_memory: false"):
        store(None, slots=5000)


def test_more_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"observations\.bin.*will grow to .* GiB free; take a smaller"):
        store(tmp_path)
    assert not (tmp_path / "observations.bin").exists()
