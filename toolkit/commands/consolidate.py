"""The verb `consolidate`: a sharded checkpoint as a single file."""

from collections.abc import Sequence
from pathlib import Path

from toolkit.checkpoint import find_checkpoint, read_checkpoint
from toolkit.checkpoint_io import has_changed
from toolkit.commands.checkpoint_file import path_and_output, write_and_tell
from toolkit.errors import UserError


def consolidate(args: Sequence[str]) -> Path:
    """Write the whole tensors of a sharded checkpoint, and all else that is in it, into one file; print where.

    Args:
        args: A run folder (its best checkpoint) or a checkpoint, and ``--output FILE``; by default the file goes into
            the run folder, under the checkpoint's name.

    Raises:
        UserError: There is no such checkpoint, it is a single file, was damaged, or the file cannot be written.
    """
    path, given = path_and_output("consolidate", args)
    checkpoint = find_checkpoint(path)
    if checkpoint.is_file():
        raise UserError(f"consolidate: {str(checkpoint)!r} is a single file already.")
    if has_changed(checkpoint):
        raise UserError(f"checkpoint {str(checkpoint)!r}: its checksum is wrong, so it was damaged; take another.")
    in_run = checkpoint.parent.name == "checkpoints"
    output: Path = given or (checkpoint.parent.parent if in_run else Path()) / f"{checkpoint.stem}.ckpt"
    return write_and_tell(read_checkpoint(checkpoint), output)
