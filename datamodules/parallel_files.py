"""Pairs of texts from two aligned files, or from one whose lines have two columns."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.image_reader import existing
from datamodules.text_files import lines_of
from toolkit.errors import UserError

Pair = tuple[str, str]
"""Source and target."""


def read_pairs(files: Sequence[str], option: str) -> list[Pair]:
    """Lines of two files, or of one with a tab in each line, without those of which a side is empty.

    Args:
        files: Source and target; or one file; ``.gz`` is unpacked.
        option: The key of the config that names them.

    Raises:
        UserError: No such file, no UTF-8, different numbers of lines, or a line without two columns.
    """
    if len(files) not in (1, 2):
        raise UserError(
            f"{option}: need two aligned files, such as [train.de, train.en], or one whose lines are source, tab, "
            f"target, got {len(files)}."
        )
    paths = [existing(file, option) for file in files]
    pairs = _columns(paths[0]) if len(paths) == 1 else _aligned(paths[0], paths[1], option)
    empty = [number for number, pair in enumerate(pairs, start=1) if not (pair[0] and pair[1])]
    if empty:
        rank_zero_warn(
            f"data: {len(empty)} of {len(pairs)} pairs of {_named(paths)} have an empty side and are left out; the "
            f"first is that of line {empty[0]}."
        )
    kept = [pair for pair in pairs if pair[0] and pair[1]]
    if not kept:
        raise UserError(f"{option}: {_named(paths)} holds no pair of texts; give files with text.")
    return kept


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends; the space around them stays.

    Raises:
        UserError: It is no UTF-8, or no gzip where its name says so.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"data: {str(path)!r} cannot be read ({error}).") from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"data: {str(path)!r} is no UTF-8 text: line {line}, byte {error.start} is {data[error.start]:#04x} "
            f"({error.reason}). Convert it, such as with iconv -f LATIN1 -t UTF-8."
        ) from error
    return lines_of(text)


def _columns(path: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if line.strip() and len(columns) != 2:
            raise UserError(
                f"data: {str(path)!r}, line {number}: need source, tab, target, found {len(columns)} columns: "
                f"{line[:60]!r}."
            )
        pairs.append((columns[0].strip(), columns[1].strip()) if line.strip() else ("", ""))
    return pairs


def _aligned(source: Path, target: Path, option: str) -> list[Pair]:
    lines = [[line.strip() for line in read_lines(path)] for path in (source, target)]
    if len(lines[0]) != len(lines[1]):
        long, short = (0, 1) if len(lines[0]) > len(lines[1]) else (1, 0)
        paths, end = (source, target), len(lines[short])
        sides = zip(*lines, strict=False)
        lone = next((n for n, pair in enumerate(sides, start=1) if bool(pair[0]) != bool(pair[1])), 0)
        raise UserError(
            f"{option}: the files are not aligned: {str(source)!r} has {len(lines[0])} lines, {str(target)!r} "
            f"{len(lines[1])}. Line {end + 1} of {str(paths[long])!r} stands alone: {lines[long][end][:60]!r}."
            + (f" Line {lone} is the first that is empty in one of them only." if lone else "")
        )
    return list(zip(*lines, strict=True))


def _named(paths: Sequence[Path]) -> str:
    return " and ".join(repr(str(path)) for path in paths)
