from pathlib import Path

import pytest

import callbacks.run_folder
from callbacks.run_folder import new_run_folder, newest_run


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(callbacks.run_folder.secrets, "token_hex", lambda n: next(ids))
    monkeypatch.setattr(callbacks.run_folder, "_now", lambda: "20260101-000000")
    first, second = new_run_folder(tmp_path, "digits"), new_run_folder(tmp_path, "digits")
    assert first.name.endswith("aaaa")
    assert second.name.endswith("bbbb")


def test_newest_run_needs_a_checkpoint(tmp_path: Path) -> None:
    assert newest_run(tmp_path, "digits") is None
    for name, files in (("20260101-000000-aa", ["best.ckpt"]), ("20260102-000000-aa", ["last.ckpt"]), ("2027", [])):
        folder = tmp_path / "digits" / name / "checkpoints"
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).touch()
    assert newest_run(tmp_path, "digits") == tmp_path / "digits" / "20260102-000000-aa"
