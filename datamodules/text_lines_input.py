"""Lines of a user's files, for a classifier to read."""

from collections.abc import Sequence
from typing import Any

from datamodules.base import BaseDataModule
from datamodules.labelled_text import Row
from datamodules.labelled_texts import LabelledTexts
from datamodules.text_classification import tokenised
from datamodules.text_input import input_lines
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Stage


class TextLinesInputDataModule(BaseDataModule):
    """Each line of text files is a text without label.

    Args:
        paths: Files, and folders of ``.txt`` files.
        tokenizer: Of the model.
        max_length: Tokens of a line that are read; the rest is left out, and told. None: all.
        **loader: ``batch_size`` and ``num_workers`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, no UTF-8, no line with text in it, or a character that the vocabulary cannot spell.
    """

    def __init__(
        self, paths: Sequence[str], tokenizer: Tokenizer, max_length: int | None = None, **loader: Any
    ) -> None:
        super().__init__(**loader)
        rows = [Row(line, "", place) for place, line in input_lines(paths, strip=True)]  # as in training
        self._names = [row.place for row in rows]
        self._texts = LabelledTexts(tokenised(rows, tokenizer, max_length, "predict"))

    def dataset(self, stage: Stage) -> LabelledTexts:
        """All lines, whatever the stage."""
        return self._texts

    def sample_name(self, index: int) -> str:
        """File and line number."""
        return self._names[index]
