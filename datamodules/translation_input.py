"""Lines of a user's files, to be translated."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import BaseDataModule
from datamodules.parallel_files import read_lines
from datamodules.parallel_texts import ParallelTexts, TokenTexts
from datamodules.text_input import input_files
from toolkit.errors import UserError
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Stage


class TranslationInputDataModule(BaseDataModule):
    """Each line of text files is a text; empty ones are left out.

    Args:
        paths: Files, which may be gzipped, and folders of ``.txt`` files.
        tokenizer: Of the source.
        max_length: Tokens that the model reads, the end included; the rest of a longer line is left out, and told.
        **loader: ``batch_size`` and ``num_workers`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, no UTF-8, no line with text in it, or a character that the vocabulary cannot spell.
    """

    def __init__(self, paths: Sequence[str], tokenizer: Tokenizer, max_length: int, **loader: Any) -> None:
        super().__init__(**loader)
        end = np.array([tokenizer.end_token], dtype=np.uint32)
        self._names: list[str] = []
        texts: list[np.ndarray] = []
        cut = 0
        for file in input_files(paths):
            for number, line in enumerate(map(str.strip, read_lines(file)), start=1):
                if not line:
                    continue
                try:
                    tokens = tokenizer.encode(line)
                except UserError as error:
                    raise UserError(f"{file}:{number}: {error}") from error
                cut += len(tokens) >= max_length
                texts.append(np.concatenate([tokens[: max_length - 1], end]))
                self._names.append(f"{file}:{number}")
        if not texts:
            raise UserError(f"--input: no line of {', '.join(map(str, paths))} has text in it.")
        if cut:
            rank_zero_warn(
                f"predict: {cut} of {len(texts)} lines are longer than {max_length} tokens with their end; their rest "
                "is not read."
            )
        nothing = TokenTexts([np.array([0], dtype=np.uint32)] * len(texts))  # there is no translation yet
        self._texts = ParallelTexts(TokenTexts(texts), nothing, end=0, by_length=True)

    def dataset(self, stage: Stage) -> ParallelTexts:
        """All lines, whatever the stage."""
        return self._texts

    def sample_name(self, index: int) -> str:
        """File and line number."""
        return self._names[index]
