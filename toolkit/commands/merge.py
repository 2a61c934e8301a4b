"""The verb `merge`: a checkpoint with adapters as one of the plain network."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.checkpoint import find_checkpoint, load, read_checkpoint
from toolkit.checkpoint_io import write
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
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("path")
    parser.add_argument("--output", type=Path)
    try:
        options = parser.parse_args(args)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"merge: name one run folder or checkpoint, and --output FILE; got {args}.") from error
    checkpoint = find_checkpoint(options.path)
    content, task = read_checkpoint(checkpoint), load(checkpoint)
    if not merge_adapters(task.net):
        raise UserError(f"merge: {str(checkpoint)!r} has no adapters, so there is nothing to merge.")
    merged = {name: content[name] for name in KEPT if name in content}
    merged |= {"state_dict": task.state_dict()}
    for name in ("hyper_parameters", "config"):
        merged |= {name: _without_lora(content[name])} if name in content else {}
    folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    output: Path = options.output or folder / "merged.ckpt"
    try:
        write(merged, output)
    except OSError as error:
        raise UserError(f"output: cannot write {str(output)!r} ({error}); name a file that can be written.") from error
    print(f"{'checkpoint':<10}  {output}  ({output.stat().st_size / 1e6:.1f} MB)")
    print(f"{'next':<10}  python cli.py test --ckpt_path {output}", flush=True)
    return output


def _without_lora(value: Any) -> Any:
    """Arguments in which every ``lora`` is None.

    >>> _without_lora({"net": {"init_args": {"lora": {"rank": 8}, "dropout": 0.1}}})
    {'net': {'init_args': {'lora': None, 'dropout': 0.1}}}
    """
    if isinstance(value, dict):
        return {key: None if key == "lora" else _without_lora(item) for key, item in value.items()}
    return value
