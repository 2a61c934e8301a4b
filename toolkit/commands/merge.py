"""The verb `merge`: a checkpoint with adapters as one of the plain network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.checkpoint import find_checkpoint, load, read_checkpoint
from toolkit.commands.checkpoint_file import path_and_output, write_and_tell
from toolkit.errors import UserError
from toolkit.nn.lora import merge_adapters

KEPT = ("epoch", "global_step", "pytorch-lightning_version", "hparams_name", "task", "config")
"""Of the checkpoint, beside its weights and arguments; the rest would resume a run that trained other parameters."""


def merge(args: Sequence[str]) -> Path:
    """Add trained adapters to the weights beside them and write what needs neither them nor ``peft``; print where.

    Args:
        args: A run folder (its best checkpoint) or a checkpoint, and ``--output FILE``; by default ``merged.ckpt`` in
            the run folder, or beside the checkpoint.

    Raises:
        UserError: There is no such checkpoint, it has no adapters, or the file cannot be written.
    """
    path, given = path_and_output("merge", args)
    checkpoint = find_checkpoint(path)
    content, task = read_checkpoint(checkpoint), load(checkpoint)
    if not merge_adapters(task.net):
        raise UserError(f"merge: {str(checkpoint)!r} has no adapters, so there is nothing to merge.")
    merged = {name: content[name] for name in KEPT if name in content}
    merged |= {"state_dict": task.state_dict()}
    for name in ("hyper_parameters", "config"):
        merged |= {name: _without_lora(content[name])} if name in content else {}
    folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    output: Path = given or folder / "merged.ckpt"
    return write_and_tell(merged, output)


def _without_lora(value: Any) -> Any:
    """Arguments in which every ``lora`` is None.

    >>> _without_lora({"net": {"init_args": {"lora": {"rank": 8}, "dropout": 0.1}}})
    {'net': {'init_args': {'lora': None, 'dropout': 0.1}}}
    """
    if isinstance(value, dict):
        return {key: None if key == "lora" else _without_lora(item) for key, item in value.items()}
    return value
