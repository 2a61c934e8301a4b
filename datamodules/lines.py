"""Text whose lines are documents, such as names."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info

from datamodules.base import BaseDataModule
from datamodules.corpus import Corpus, in_memory, tokenised
from datamodules.image_reader import existing
from datamodules.text_files import Document, read_text_lines
from datamodules.token_blocks import Lines
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Baseline, Stage


class LinesDataModule(BaseDataModule):
    """A file in which each line is a text of its own, and a sample.

    Empty lines and lines that stood before are left out, before the split, so that no line is in two splits. The end of
    a line is a token, predicted like the others, and stands for the line break.

    Args:
        path: The file.
        tokenizer: Trained on the training split; characters if None.
        val_size: Share of the lines.
        test_size: Share of the lines; 0: no test split.
        split_seed: Which lines are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, no UTF-8 (with the place), too few lines, or a share out of range.
    """

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer | None = None,
        val_size: float = 0.1,
        test_size: float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        if not 0 < val_size < 1 or not 0 <= test_size < 1 or val_size + test_size >= 1:
            raise UserError(f"data.init_args: need shares whose sum is below 1, got {val_size} and {test_size}.")
        file = existing(path, "data.init_args.path")
        every = read_text_lines(file)
        lines = list(dict.fromkeys(line for line in every if line))
        if left_out := len(every) - len(lines):
            rank_zero_info(f"data: {left_out} of {len(every)} lines are empty or stood before, and are left out")
        counts = {"test": round(test_size * len(lines)), "val": round(val_size * len(lines))}
        if counts["val"] < 1 or len(lines) <= sum(counts.values()):
            raise UserError(
                f"data.init_args.path: {path!r} has {len(lines)} different lines, too few to hold some out; give more."
            )
        order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(split_seed)).tolist()
        test, val, train = np.split(np.array(order), np.cumsum([counts["test"], counts["val"]]))
        parts: dict[Stage, np.ndarray] = {"train": train, "val": val, "test": test}
        splits = {
            stage: [_document(number, lines[number]) for number in numbers.tolist()]
            for stage, numbers in parts.items()
            if len(numbers)
        }
        self._corpus: Corpus = in_memory(*tokenised(splits, tokenizer or CharTokenizer(), "\n"))
        self._splits = {stage: _lines(self._corpus, stage) for stage in self._corpus.tokens}

    @property
    def vocabulary(self) -> dict[str, Any]:
        """The trained tokenizer as plain values."""
        return self._corpus.tokenizer.vocabulary()

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self._corpus.tokenizer.size

    @property
    def pretrained(self) -> str | None:
        """The pretrained model that the tokenizer is of; None for one that was trained here."""
        return self._corpus.tokenizer.pretrained

    @property
    def block_size(self) -> int:
        """Tokens of the longest line, with its end."""
        return max(lines.block_size for lines in self._splits.values())

    def dataset(self, stage: Stage) -> Lines:
        """The lines of a split."""
        self._corpus.of(stage)  # it says what is missing
        self._splits[stage].seed = self.seed
        return self._splits[stage]

    def baseline(self, stage: Stage) -> Baseline:
        """A model that knows how frequent each token is in the training split, and nothing else."""
        return self._corpus.unigram(stage)


def _document(number: int, line: str) -> Document:
    return Document(f"line {number}", len(line), "", lambda: iter([line]))


def _lines(corpus: Corpus, stage: Stage) -> Lines:
    tokens = corpus.of(stage)
    return Lines(tokens, np.flatnonzero(tokens == corpus.tokenizer.end_token)[:-1])
