"""What verbs share that make one checkpoint of another: their arguments, and the file that they write."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.checkpoint_io import write
from toolkit.errors import UserError


def path_and_output(verb: str, args: Sequence[str]) -> tuple[str, Path | None]:
    """The run folder or checkpoint, and the value of ``--output``.

    Raises:
        UserError: Something else was given.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("path")
    parser.add_argument("--output", type=Path)
    try:
        options = parser.parse_args(args)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"{verb}: name one run folder or checkpoint, and --output FILE; got {args}.") from error
    return options.path, options.output


def write_and_tell(content: Mapping[str, Any], output: Path) -> Path:
    """Write a checkpoint and print where it is and what to type next.

    Raises:
        UserError: The file cannot be written.
    """
    if output.is_dir():
        raise UserError(f"output: {str(output)!r} is a folder; write the name of a file.")
    try:
        write(dict(content), output)
    except OSError as error:
        raise UserError(f"output: cannot write {str(output)!r} ({error}); name a file that can be written.") from error
    print(f"{'checkpoint':<10}  {output}  ({output.stat().st_size / 1e6:.1f} MB)")
    print(f"{'next':<10}  python cli.py test --ckpt_path {output}", flush=True)
    return output
