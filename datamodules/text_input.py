"""Lines of a user's files, for a language model to read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import BaseDataModule
from datamodules.image_reader import existing
from datamodules.text_files import read_text_lines, text_files
from datamodules.token_blocks import Lines
from toolkit.errors import UserError
from toolkit.language.text_generator import first_token
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Stage


class TextInputDataModule(BaseDataModule):
    """Each line of text files is a sample; what reads them decides how far it can look.

    Args:
        paths: Files, and folders of ``.txt`` files.
        tokenizer: Of the model.
        longest: Tokens that it can read; the rest of a longer line is left out, and told. None: any number.
        **loader: ``batch_size`` and ``num_workers`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, no UTF-8, no line with text in it, or a character that the vocabulary cannot spell.
    """

    def __init__(self, paths: Sequence[str], tokenizer: Tokenizer, longest: int | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self._names: list[str] = []
        begin = np.array([first_token(tokenizer)], dtype=np.uint32)
        end = np.array([tokenizer.end_token] if tokenizer.end == "\n" else [], dtype=np.uint32)
        parts: list[np.ndarray] = []
        cut = 0
        for place, line in input_lines(paths):
            try:
                tokens = np.concatenate([begin, tokenizer.encode(line), end])
            except UserError as error:
                raise UserError(f"{place}: {error}") from error
            kept = tokens if longest is None else tokens[: longest + 1]
            cut += len(kept) < len(tokens)
            self._names.append(place)
            parts.append(kept)
        if cut:
            rank_zero_warn(
                f"predict: {cut} of {len(parts)} lines are longer than {longest} tokens; their rest is not read."
            )
        first = np.cumsum([0, *map(len, parts)])
        self._lines = Lines(np.concatenate(parts), first[:-1], first[1:] - 1)

    def dataset(self, stage: Stage) -> Lines:
        """All lines, whatever the stage."""
        return self._lines

    def sample_name(self, index: int) -> str:
        """File and line number."""
        return self._names[index]


def input_files(paths: Sequence[str]) -> list[Path]:
    """The files behind ``--input``.

    Args:
        paths: Files, and folders of ``.txt`` files.

    Raises:
        UserError: No such file, or none in a folder.
    """
    where = ("**/*.txt", "--input", "Name the files themselves.")
    return [file for path in paths for file in text_files(existing(path, "--input"), *where)]


def input_lines(paths: Sequence[str], strip: bool = False) -> Iterator[tuple[str, str]]:
    """Place and text of each line of files that is not empty.

    Args:
        paths: Files, and folders of ``.txt`` files.
        strip: Without the space around it.

    Raises:
        UserError: No such file, no UTF-8, or no line with text in it.
    """
    found = False
    for file in input_files(paths):
        for number, line in enumerate(read_text_lines(file), start=1):
            if text := line.strip() if strip else line:
                found = True
                yield f"{file}:{number}", text
    if not found:
        raise UserError(f"--input: no line of {', '.join(map(str, paths))} has text in it.")
