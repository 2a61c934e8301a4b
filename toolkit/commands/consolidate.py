"""The verb `consolidate`: a sharded checkpoint as a single file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from toolkit.checkpoint import find_checkpoint, read_checkpoint
from toolkit.checkpoint_io import has_changed, write
from toolkit.errors import UserError


def consolidate(args: Sequence[str]) -> Path:
    """Write the whole tensors of a sharded checkpoint, and all else that is in it, into one file; print where.

    Args:
        args: A run folder (its best checkpoint) or a checkpoint, and ``--output FILE``; by default the file goes into
            the run folder, under the checkpoint's name.

    Raises:
        UserError: There is no such checkpoint, it is a single file, was damaged, or the file cannot be written.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("path")
    parser.add_argument("--output", type=Path)
    try:
        options = parser.parse_args(args)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"consolidate: name one run folder or checkpoint, and --output FILE; got {args}.") from error
    checkpoint = find_checkpoint(options.path)
    if checkpoint.is_file():
        raise UserError(f"consolidate: {str(checkpoint)!r} is a single file already.")
    if has_changed(checkpoint):
        raise UserError(f"checkpoint {str(checkpoint)!r}: its checksum is wrong, so it was damaged; take another.")
    in_run = checkpoint.parent.name == "checkpoints"
    output: Path = options.output or (checkpoint.parent.parent if in_run else Path()) / f"{checkpoint.stem}.ckpt"
    if output.is_dir():
        raise UserError(f"output: {str(output)!r} is a folder; write the name of a file.")
    try:
        write(read_checkpoint(checkpoint), output)
    except OSError as error:
        raise UserError(f"output: cannot write {str(output)!r} ({error}); name a file that can be written.") from error
    print(f"{'checkpoint':<10}  {output}  ({output.stat().st_size / 1e6:.1f} MB)")
    print(f"{'next':<10}  python cli.py test --ckpt_path {output}", flush=True)
    return output
