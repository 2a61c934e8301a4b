"""Tokens that are frequent sequences of bytes."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from toolkit.errors import UserError
from toolkit.language.tokenizer import Tokenizer


class BytePairTokenizer(Tokenizer):
    """Byte-level byte pair encoding, by the package ``tokenizers``.

    Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016; on bytes, with GPT-2's
    split into words (Radford et al., 2019), so that every text can be spelled.

    Args:
        vocabulary_size: Tokens, the 256 bytes included and the end of a document not; fewer where a text has no more
            pairs to merge.
        model: The trained merges in the package's own JSON; the DataModule makes it.
        end: The text that the end of a document stands for; the DataModule sets it.

    Raises:
        UserError: The package is missing, or the vocabulary has no room for the bytes.
    """

    def __init__(self, vocabulary_size: int = 1024, model: str | None = None, end: str | None = None) -> None:
        if vocabulary_size < 256:
            raise UserError(
                f"tokenizer.init_args.vocabulary_size: need at least 256, the single bytes, got {vocabulary_size}."
            )
        super().__init__(end)
        self.vocabulary_size = vocabulary_size
        self.model = model
        self._library = _library()
        self._bpe = self._library.Tokenizer.from_str(model) if model else self._untrained()

    def _untrained(self) -> Any:
        bpe = self._library.Tokenizer(self._library.models.BPE())
        bpe.pre_tokenizer = self._library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return bpe

    def trained(self, texts: Iterable[str], end: str | None) -> Self:
        """Merge the most frequent pairs of texts until the vocabulary is full."""
        bpe = self._untrained()
        trainer = self._library.trainers.BpeTrainer(
            vocab_size=self.vocabulary_size,
            initial_alphabet=sorted(self._library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return type(self)(self.vocabulary_size, bpe.to_str(), end)

    def arguments(self) -> dict[str, Any]:
        """Merges and settings."""
        return {"vocabulary_size": self.vocabulary_size, "model": self.model, "end": self.end}

    def spell(self) -> list[bytes]:
        """The bytes behind the characters by which the package writes them."""
        numbers: dict[str, int] = self._bpe.get_vocab(with_added_tokens=False)
        byte_of = _byte_of_character()
        return [bytes(byte_of[c] for c in token) for token in sorted(numbers, key=lambda token: numbers[token])]

    def encode(self, text: str) -> np.ndarray:
        """Merge the bytes of a text as in training."""
        return np.array(self._bpe.encode(text).ids, dtype=np.uint32)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "BytePairTokenizer needs the package tokenizers, which is not installed; write python -m pip install "
            '"fulgurite[language]", or use CharTokenizer.'
        ) from error
    return tokenizers


def _byte_of_character() -> dict[str, int]:
    """GPT-2's way to write bytes as characters: the printable ones as they are, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [value for value in range(256) if value not in printable]
    shifted = {chr(256 + place): value for place, value in enumerate(others)}
    return {chr(value): value for value in printable} | shifted
