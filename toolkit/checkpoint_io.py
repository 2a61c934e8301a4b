"""Checkpoint files that are whole or not there: written beside their target, synced, checksummed, then put in place.

The file is torch's own ZIP archive; its checksum stands in the archive's comment, where no reader minds it.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from toolkit import sharded_checkpoint
from toolkit.errors import UserError

PREFIX = b"sha256:"
LENGTH = len(PREFIX) + 64
HEAD = LENGTH.to_bytes(2, "little") + PREFIX
"""How the comment begins: an archive ends with the comment's length and the comment."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes so that a crash at any instant leaves the previous checkpoint or the new one; reads none that was damaged.

    A write that fails (full disk, no permission) is repeated; then the run ends, with the previous checkpoint intact.

    Args:
        retries: How often a failed write is repeated.
        wait: Seconds before a repetition.
    """

    def __init__(self, retries: int = 2, wait: float = 5.0) -> None:
        super().__init__()
        self.retries = retries
        self.wait = wait

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            UserError: It could not be written; what stood there before still does.
        """
        for attempt in range(self.retries + 1):
            try:
                write(checkpoint, Path(path))
                return
            except OSError as error:
                left = self.retries - attempt
                message = f"checkpoint {str(path)!r}: cannot be written ({error}); what stood there before is intact"
                if not left:
                    raise UserError(f"{message}. Make room or mend the permissions, then resume the run.") from error
                rank_zero_warn(f"{message}; trying again in {self.wait:g} s, {left} tries left.")
                time.sleep(self.wait)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values only, and only what was written.

        Raises:
            UserError: The file was damaged.
        """
        if has_changed(Path(path)):
            raise UserError(f"checkpoint {str(path)!r}: its checksum is wrong, so the file was damaged; take another.")
        return read_tensors(Path(path), map_location or "cpu")

    def finish(self) -> None:
        """Wait until all is written, which here it is."""


def read_tensors(path: Path, map_location: Any = "cpu", sharded: bool = True) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint, and nothing that could execute code.

    Args:
        path: A file, or a sharded checkpoint.
        map_location: Where a file's tensors go; those of a sharded checkpoint stay on the CPU.
        sharded: Whether to read sharded tensors; without them, a large checkpoint is opened in no time.

    Raises:
        UserError: It is no checkpoint, or needs more than ``weights_only=True`` allows.
    """
    content: dict[str, Any]
    try:
        if path.is_dir():
            content = sharded_checkpoint.read_whole(path) if sharded else sharded_checkpoint.read_values(path)
        else:
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]  # that of an empty file says nothing
        raise UserError(f"checkpoint {str(path)!r}: not readable as a checkpoint ({reason}).") from error
    return content


def write(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint file durably.

    Raises:
        OSError: It could not be written; nothing is left beside the target.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(content, hashing)  # type: ignore[arg-type]  # it writes and flushes, no more
            file.seek(-2, os.SEEK_END)  # over the length of no comment
            file.write(HEAD + hashing.digest.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None  # torch wraps what the file raised
        raise
    sharded_checkpoint.sync_folder(path.parent)


def has_changed(path: Path) -> bool:
    """Whether a checkpoint is not what was written. Files without a checksum of ours are taken as they are."""
    if path.is_dir() or not path.exists():  # a name may lead nowhere
        return sharded_checkpoint.has_changed(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - LENGTH - 2))
        comment = file.read()
        if not comment.startswith(HEAD):
            return not comment.endswith(b"\0\0") or comment[-22:-18] != b"PK\x05\x06"  # no archive's end either
        file.seek(0)
        digest = hashlib.sha256()
        for block in _blocks(file, size - LENGTH - 2):
            digest.update(block)
    digest.update(b"\0\0")
    return comment != HEAD + digest.hexdigest().encode()


def newest_valid(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder from which a run goes on exactly; damaged ones are named in a warning.

    That is one of ``last*.ckpt``, which are written between two steps. The best ones are written in the middle of an
    epoch's end, perhaps with accumulated gradients that no checkpoint holds; they are taken if all others are damaged.
    """
    newest_first = sorted(folder.glob("*.ckpt"), key=lambda file: -file.lstat().st_mtime_ns)
    last = [file for file in newest_first if file.name.startswith("last")]
    for file in [*last, *(file for file in newest_first if last and file not in last)]:
        if not has_changed(file):
            return file
        rank_zero_warn(f"checkpoint {str(file)!r} is damaged and left out; the next older one is taken.")
    return None


def checkpoint_path(folder: Path, kind: str, place: int) -> Path:
    """The file of the so-manyth "best" or "last" checkpoint, counted from 1.

    >>> checkpoint_path(Path("run"), "best", 1).name, checkpoint_path(Path("run"), "best", 2).name
    ('best.ckpt', 'best-2.ckpt')
    """
    return folder / (f"{kind}.ckpt" if place == 1 else f"{kind}-{place}.ckpt")


def make_room(folder: Path, kind: str, place: int, keep: int) -> None:
    """Move the checkpoints from a place on one place back, so that it can be overwritten; no more than ``keep`` stay.

    At no instant is there none under a name that has had one.
    """
    for older in range(keep, place, -1):
        source, target = checkpoint_path(folder, kind, older - 1), checkpoint_path(folder, kind, older)
        if source.exists():
            beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            beside.unlink(missing_ok=True)
            os.link(source, beside, follow_symlinks=False)  # a sharded checkpoint is a name for a folder
            os.replace(beside, target)


def remove_stale(folder: Path) -> None:
    """Remove what a crash in the middle of writing left behind."""
    for file in folder.glob(".*.ckpt.*.tmp"):
        file.unlink(missing_ok=True)
    sharded_checkpoint.remove_unnamed(folder)


class _HashingFile:
    """What `torch.save` writes to: passes on, and hashes what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash."""
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Pass on."""
        self.file.flush()


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (block := file.read(min(2**20, length))):
        length -= len(block)
        yield block
