"""One token a character."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from toolkit.errors import UserError
from toolkit.language.tokenizer import Tokenizer


class CharTokenizer(Tokenizer):
    """A token for each character (code point) of the training split, in the order of Unicode.

    Args:
        characters: The characters, ascending; the DataModule finds them.
        fallback: Spell characters that were not in the training split by their bytes, with 256 more tokens. Without,
            such a character is an error.
        end: The text that the end of a document stands for; the DataModule sets it.

    >>> tokenizer = CharTokenizer("ab", fallback=False)
    >>> tokenizer.encode("abba").tolist(), tokenizer.decode([1, 0])
    ([0, 1, 1, 0], 'ba')
    """

    def __init__(self, characters: str = "", fallback: bool = True, end: str | None = None) -> None:
        super().__init__(end)
        self.characters = characters
        self.fallback = fallback
        self._codes = np.array([ord(character) for character in characters], dtype=np.uint32)  # (K,)

    def trained(self, texts: Iterable[str], end: str | None) -> Self:
        """The characters of texts."""
        found: set[str] = set()
        for text in texts:
            found |= set(text)
        return type(self)("".join(sorted(found)), self.fallback, end)

    def arguments(self) -> dict[str, Any]:
        """Characters and settings."""
        return {"characters": self.characters, "fallback": self.fallback, "end": self.end}

    def spell(self) -> list[bytes]:
        """Characters, then single bytes."""
        alone = [bytes([value]) for value in range(256)] if self.fallback else []
        return [character.encode() for character in self.characters] + alone

    def encode(self, text: str) -> np.ndarray:
        """One token a character, or several where it is spelled by its bytes."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        tokens = np.searchsorted(self._codes, codes).astype(np.uint32)
        known = self._codes[np.minimum(tokens, len(self._codes) - 1)] == codes if len(self._codes) else codes < 0
        if known.all():
            return tokens
        if not self.fallback:
            place = int(np.argmin(known))
            raise UserError(
                f"tokenizer: the character {text[place]!r} at position {place} is not in the training split; write "
                "tokenizer.init_args.fallback: true, which spells it by its bytes."
            )
        first = len(self._codes)
        spelled = [
            [int(token)] if is_known else [first + value for value in character.encode()]
            for token, is_known, character in zip(tokens, known, text, strict=True)
        ]
        return np.array([token for tokens in spelled for token in tokens], dtype=np.uint32)
