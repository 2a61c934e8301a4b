"""Reading a checkpoint back: as plain data, or as the trained task."""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from toolkit import sharded_checkpoint
from toolkit.allow_list import enforce, is_allowed
from toolkit.checkpoint_io import read_tensors, write
from toolkit.errors import UserError
from toolkit.task import Task

NAMES = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def has_checkpoint(run_folder: Path) -> bool:
    """Whether a run has written one."""
    return any(_is_checkpoint(run_folder / name) for name in NAMES)


def _is_checkpoint(path: Path) -> bool:
    return path.is_file() or sharded_checkpoint.is_sharded(path)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a path means: itself, a file or a sharded one, or the best (else the last) of a run folder.

    Raises:
        UserError: There is none, or the path is an address.
    """
    file = Path(path)
    if "://" in str(path):
        raise UserError(f"checkpoint: only local files are read, got the address {str(path)!r}; download it first.")
    if _is_checkpoint(file):
        return file
    if not file.exists():
        raise UserError(f"checkpoint: no such file or run folder: {str(path)!r}.")
    if sharded_checkpoint.is_incomplete(file):
        raise UserError(f"checkpoint: {str(path)!r} was not written to its end; take another one.")
    for name in NAMES:
        if _is_checkpoint(file / name):
            return file / name
    raise UserError(f"checkpoint: the folder {str(path)!r} holds no checkpoints/best.ckpt or checkpoints/last.ckpt.")


def read_checkpoint(path: str | Path, sharded: bool = True) -> dict[str, Any]:
    """Read tensors and plain values, and nothing that could execute code.

    Args:
        path: A run folder or checkpoint.
        sharded: Whether to read the tensors of a sharded checkpoint, too, as whole ones.

    Raises:
        UserError: The file is no checkpoint, or needs more than ``weights_only=True`` allows.
    """
    file = find_checkpoint(path)
    content = read_tensors(file, sharded=sharded)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"checkpoint {str(file)!r}: it holds no 'state_dict', so it is no checkpoint of a task.")
    return content


def load(path: str | Path) -> Task:
    """The trained task of a run folder or checkpoint, on the CPU, in evaluation mode.

    Args:
        path: A run folder (its best checkpoint) or a checkpoint file.

    Raises:
        UserError: There is no checkpoint, or it does not say how to build its network.
    """
    file = find_checkpoint(path)
    content = read_checkpoint(file)
    class_path = content.get("hyper_parameters", {}).get("_class_path") or content.get("task")
    if class_path is None:
        raise UserError(f"checkpoint {str(file)!r}: it does not name its task, so it was not written by this toolkit.")
    module, _, name = class_path.rpartition(".")
    if module and not is_allowed(class_path) and module not in sys.modules:
        raise UserError(
            f"checkpoint {str(file)!r}: it names the task {class_path}, whose package is not allowed; if you trust it, "
            f"run from the folder that holds it, or import {module} before."
        )
    enforce()
    try:
        task_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"checkpoint {str(file)!r}: its task {class_path} cannot be imported ({error}); run from the folder, or "
            "install the package, that defines it."
        ) from error
    if not (isinstance(task_class, type) and issubclass(task_class, Task)):
        raise UserError(f"checkpoint {str(file)!r}: {class_path} is no task.")
    if file.is_file():
        return task_class.load_from_checkpoint(file).eval()
    with tempfile.TemporaryDirectory() as folder:
        write(content, whole := Path(folder) / file.name)
        return task_class.load_from_checkpoint(whole).eval()
