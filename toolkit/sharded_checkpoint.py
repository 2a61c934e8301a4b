"""Checkpoints of which every rank writes its own part: folders that are whole or not there.

The parts are torch's distributed checkpoint (DCP): ``__<rank>_<n>.distcp`` and ``.metadata``. All that is not sharded
lies in ``values.pt``. ``manifest.json``, with size and checksum of every file, is written last; a folder without it, or
with other content, is no checkpoint. ``last.ckpt`` is a symbolic link to the folder, so that it changes at once.
"""

import hashlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

MANIFEST = "manifest.json"
VALUES = "values.pt"
FOLDERS = "shards-"
"""How the names of the folders begin."""
PLACE = "sharded tensor"
"""Key of the dictionary that stands for a sharded tensor in ``values.pt``."""
METADATA = {
    "torch.distributed.checkpoint.metadata": (
        *("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "TensorProperties"),
        *("ChunkStorageMetadata", "_MEM_FORMAT_ENCODING"),
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch": ("Size",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("PosixPath",),
}
"""What the metadata of a checkpoint is made of, by module; besides, torch's number types."""


def is_sharded(path: Path) -> bool:
    """Whether a path is a sharded checkpoint that was written to its end."""
    return (path / MANIFEST).is_file()


def is_incomplete(path: Path) -> bool:
    """Whether a folder was to become a sharded checkpoint."""
    return not is_sharded(path) and (next(path.glob("*.distcp"), None) is not None)


def has_changed(folder: Path) -> bool:
    """Whether a folder is not what was written, because a file is missing, short or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files: dict[str, str] = manifest["sha256"]
        with ThreadPoolExecutor(max_workers=min(16, len(files))) as threads:
            return list(threads.map(lambda name: sha256(folder / name), files)) != list(files.values())
    except (OSError, ValueError, KeyError, TypeError):
        return True


def sha256(file: Path) -> str:
    """Checksum of a file."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# Writing --------------------------------------------------------------------------------------------------------------


def write_shards(content: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the sharded tensors of a checkpoint; called on all ranks, with one folder that all of them see.

    Returns:
        What is not sharded, and the checksums of the files that this rank has written.

    Raises:
        OSError: A rank could not write; then it is raised on all ranks.
    """
    tensors: dict[str, DTensor] = {}
    values = _take_out(content, "", tensors)
    try:
        save(tensors, storage_writer=FileSystemWriter(folder, sync_files=True))
    except CheckpointException as error:
        reasons = [failure[0] for failure in error.failures.values()]
        raise OSError(", ".join(sorted({str(reason) for reason in reasons}))) from error
    rank = torch.distributed.get_rank()
    own = [*folder.glob(f"__{rank}_*.distcp"), *([folder / ".metadata"] if rank == 0 else [])]
    return values, {file.name: sha256(file) for file in own}


def finish_folder(folder: Path, checksums: Mapping[str, str]) -> None:
    """Write the manifest, which makes the folder a checkpoint; called on rank 0, when all files are there."""
    beside = folder / f"{MANIFEST}.tmp"
    with open(beside, "w") as file:
        json.dump({"sha256": dict(sorted(checksums.items()))}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / MANIFEST)
    sync_folder(folder)


def publish(folder: Path, path: Path) -> None:
    """Let a name, such as ``last.ckpt``, mean a folder from now on."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name, target_is_directory=True)
    os.replace(beside, path)
    sync_folder(path.parent)


def remove_unnamed(parent: Path) -> None:
    """Remove the folders to which no checkpoint's name leads any more, or does not lead yet."""
    named = {path.resolve() for path in parent.glob("*.ckpt") if path.is_symlink()}
    for folder in parent.glob(f"{FOLDERS}*"):
        if folder.resolve() not in named:
            shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files' content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_out(value: Any, place: str, tensors: dict[str, DTensor]) -> Any:
    """A copy with a placeholder instead of each sharded tensor."""
    if isinstance(value, DTensor):
        tensors[place] = value
        return {PLACE: place}
    if isinstance(value, Mapping):
        return {key: _take_out(item, f"{place}/{key}", tensors) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_take_out(item, f"{place}/{number}", tensors) for number, item in enumerate(value))
    return value


# Reading --------------------------------------------------------------------------------------------------------------


def read_values(folder: Path) -> dict[str, Any]:
    """All that is not sharded; the sharded tensors are left out."""
    content: dict[str, Any] = torch.load(folder / VALUES, map_location="cpu", weights_only=True)
    return content


def read_shards(folder: Path, empty: Callable[[torch.Size, torch.dtype], Tensor], no_dist: bool) -> dict[str, Any]:
    """A checkpoint as `torch.load` would give it, of whole tensors or of parts.

    Args:
        folder: The checkpoint.
        empty: Makes what a tensor of some size and type is read into: a whole one, or this rank's part of it.
        no_dist: Whether this process reads alone, not together with all ranks.

    Raises:
        pickle.UnpicklingError: The metadata names anything but metadata.
    """
    reader = _Reader(folder)
    described = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Any] = {}
    for place, tensor in described.items():
        assert isinstance(tensor, TensorStorageMetadata), place  # the unpickler knows nothing else
        tensors[place] = empty(tensor.size, tensor.properties.dtype)
    if tensors:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*assuming the intent is to load in a single process.*")  # as it is
            load(tensors, storage_reader=reader, no_dist=no_dist)
    content: dict[str, Any] = _put_back(read_values(folder), tensors)
    return content


def read_whole(folder: Path) -> dict[str, Any]:
    """A checkpoint of whole tensors, on the CPU, read by this process alone."""
    return read_shards(folder, lambda size, dtype: torch.empty(size, dtype=dtype), no_dist=True)


def _put_back(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {PLACE}:
            return tensors[value[PLACE]]
        return {key: _put_back(item, tensors) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_put_back(item, tensors) for item in value)
    return value


class _Reader(FileSystemReader):
    """Torch's, whose metadata is a pickle that may name nothing but what metadata is made of."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read ``.metadata``."""
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata: Metadata = _MetadataUnpickler(file).load()
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Knows no function and no class but plain records of sizes, types and places in files."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up what the pickle names, if it is allowed."""
        if module == "pathlib._local":  # where Python 3.13 has its paths
            module = "pathlib"
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if name in METADATA.get(module, ()) or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the metadata of a checkpoint must not name {module}.{name}")
