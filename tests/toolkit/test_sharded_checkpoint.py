"""With a process group of one rank; two ranks are in test_sharded_strategy.py."""

import io
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from toolkit import sharded_checkpoint
from toolkit.checkpoint import find_checkpoint, has_checkpoint, read_checkpoint
from toolkit.checkpoint_io import has_changed, make_room, newest_valid, remove_stale, write
from toolkit.errors import UserError


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def save(mesh: DeviceMesh, path: Path, number: float) -> Path:
    """A checkpoint as `ShardedStrategy` writes it; its folder."""
    weight = distribute_tensor(torch.full((3, 2), number), mesh, [Shard(0)])
    content: dict[str, Any] = {
        "state_dict": {"net.weight": weight, "net.mean": torch.ones(2)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0), "exp_avg": weight * 2}}, "param_groups": [{"lr": 0.1}]}],
        "config": {"name": "tiny"},
    }  # fmt: skip
    folder = path.with_name(f"shards-{number:g}")
    values, checksums = sharded_checkpoint.write_shards(content, folder)
    write(values, folder / "values.pt")
    checksums["values.pt"] = sharded_checkpoint.sha256(folder / "values.pt")
    sharded_checkpoint.finish_folder(folder, checksums)
    sharded_checkpoint.publish(folder, path)
    return folder


def test_a_folder_reads_like_a_file(mesh: DeviceMesh, tmp_path: Path) -> None:
    save(mesh, tmp_path / "last.ckpt", 3)
    content = read_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(content["state_dict"]["net.weight"], torch.full((3, 2), 3.0))
    assert type(content["state_dict"]["net.weight"]) is torch.Tensor
    assert torch.equal(content["state_dict"]["net.mean"], torch.ones(2))
    assert torch.equal(content["optimizer_states"][0]["state"][0]["exp_avg"], torch.full((3, 2), 6.0))
    assert content["optimizer_states"][0]["param_groups"] == [{"lr": 0.1}]
    assert read_checkpoint(tmp_path / "last.ckpt", sharded=False)["config"] == {"name": "tiny"}


def test_it_is_found_as_a_run_s_checkpoint(mesh: DeviceMesh, tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    save(mesh, tmp_path / "checkpoints" / "last.ckpt", 1)
    assert has_checkpoint(tmp_path)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "last.ckpt"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "values.pt", "manifest.json"])
@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda file: os.truncate(file, 10)], ids=["bit", "gone", "short"]
)
def test_any_damage_is_seen_and_the_older_one_is_taken(
    damage: Any, name: str, mesh: DeviceMesh, tmp_path: Path
) -> None:
    save(mesh, tmp_path / "last.ckpt", 1)
    make_room(tmp_path, "last", 1, 2)
    folder = save(mesh, tmp_path / "last.ckpt", 2)
    assert not has_changed(tmp_path / "last.ckpt")
    assert newest_valid(tmp_path) == tmp_path / "last.ckpt"
    if (name, damage) == ("manifest.json", flip):
        folder = folder.rename(tmp_path / "shards-moved")  # then the name leads nowhere
    else:
        damage(folder / name)
    with pytest.warns(UserWarning, match="damaged and left out"):
        assert newest_valid(tmp_path) == tmp_path / "last-2.ckpt"
    assert read_checkpoint(tmp_path / "last-2.ckpt")["state_dict"]["net.weight"][0, 0] == 1


def test_a_crash_before_the_name_leaves_the_one_before(mesh: DeviceMesh, tmp_path: Path) -> None:
    save(mesh, tmp_path / "last.ckpt", 1)
    (half := tmp_path / "shards-2").mkdir()
    shutil.copy(tmp_path / "shards-1" / "__0_0.distcp", half)
    with pytest.raises(UserError, match="was not written to its end"):
        find_checkpoint(half)
    assert newest_valid(tmp_path) == tmp_path / "last.ckpt"
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "shards-1"]


def test_folders_without_a_name_go(mesh: DeviceMesh, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make_room(tmp_path, "last", 1, 2)
        save(mesh, tmp_path / "last.ckpt", number)
        sharded_checkpoint.remove_unnamed(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-2.ckpt", "last.ckpt", "shards-2", "shards-3"]


class Foreign:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def test_metadata_executes_nothing(mesh: DeviceMesh, workdir: Path) -> None:
    folder = save(mesh, workdir / "last.ckpt", 1)
    (folder / ".metadata").write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(UserError, match=r"must not name posix\.system"):
        read_checkpoint(folder)
    assert not Path("executed").exists()


def test_objects_among_the_parts_are_refused(mesh: DeviceMesh, tmp_path: Path) -> None:
    """Torch would unpickle them without a restriction."""
    folder = save(mesh, tmp_path / "last.ckpt", 1)
    torch.distributed.checkpoint.save({"object": io.BytesIO(b"x")}, checkpoint_id=tmp_path / "other")
    shutil.copy(tmp_path / "other" / ".metadata", folder)
    with pytest.raises(UserError, match=r"must not name .*BytesStorageMetadata"):
        read_checkpoint(folder)


def test_what_cannot_be_written_is_an_error_of_the_system(mesh: DeviceMesh, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        save(mesh, tmp_path / "file" / "last.ckpt", 1)
