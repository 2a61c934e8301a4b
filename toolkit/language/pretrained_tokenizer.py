"""The tokens that a pretrained model knows. Shape legend: N tokens, V vocabulary."""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from toolkit.errors import UserError
from toolkit.language.byte_pair_tokenizer import _byte_of_character, _library
from toolkit.language.tokenizer import Tokenizer
from toolkit.nn.hub import pretrained_file, read_architecture

SINGLE_BYTE = re.compile("<0x[0-9A-F]{2}>")


class PretrainedTokenizer(Tokenizer):
    """The tokenizer of a pretrained model, by the package ``tokenizers``; nothing is trained.

    A checkpoint keeps its whole JSON, so that neither the folder nor the hub is needed again. Not every such tokenizer
    spells a text without loss: those that drop case or accents give back what they kept.

    Args:
        pretrained: A folder with ``tokenizer.json`` and ``config.json``, or a name on the Hugging Face hub.
        model: That JSON; the DataModule reads it.
        end: The text that the end of a document stands for; the DataModule sets it.
        end_number: The token that the model knows as the end of a text; the DataModule reads it.

    Raises:
        UserError: A file cannot be had or read, or the model knows no end where one is needed.
    """

    def __init__(
        self, pretrained: str, model: str | None = None, end: str | None = None, end_number: int | None = None
    ) -> None:
        super().__init__(end)
        self.pretrained: str = pretrained
        library = _library()
        if model is None:
            model = pretrained_file(pretrained, "tokenizer.json").read_text(encoding="utf-8")
            found = read_architecture(pretrained).get("eos_token_id")
            end_number = found[0] if isinstance(found, list) else found
        try:
            self._fast = library.Tokenizer.from_str(model)
        except Exception as error:  # the package raises the base class
            raise UserError(f"pretrained: the tokenizer.json of {pretrained!r} is not readable ({error}).") from error
        if end is not None and end_number is None:
            raise UserError(
                f"pretrained: {pretrained!r} knows no end of a text (eos_token_id); give a single document."
            )
        self.model, self.end_number = model, end_number
        self._fast.no_truncation()  # files often bring the limit and the padding of their first use
        self._fast.no_padding()

    def trained(self, texts: Iterable[str], end: str | None) -> Self:
        """Itself, with another end."""
        return type(self)(self.pretrained, self.model, end, self.end_number)

    def arguments(self) -> dict[str, Any]:
        """The whole JSON, and where it came from."""
        return {"pretrained": self.pretrained, "model": self.model, "end": self.end, "end_number": self.end_number}

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text, without the model's marks."""
        return np.array(self._fast.encode(text, add_special_tokens=False).ids, dtype=np.uint32)

    def framed(self, tokens: np.ndarray, longest: int | None = None) -> np.ndarray:
        """Cut so that the marks fit, too."""
        before, after = self._marks
        if longest is not None:
            tokens = tokens[: max(0, longest - len(before) - len(after))]
        return np.concatenate([before, tokens, after])

    @cached_property
    def _marks(self) -> tuple[np.ndarray, np.ndarray]:
        """What the model expects before and behind a text."""
        bare = self._fast.encode("a", add_special_tokens=False).ids
        whole = self._fast.encode("a").ids
        place = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        marks = (whole[:place], whole[place + len(bare) :])
        return tuple(np.array(part, dtype=np.uint32) for part in marks)  # type: ignore[return-value]

    @property
    def end_token(self) -> int | None:
        """The model's own, where documents have ends."""
        return None if self.end is None else self.end_number

    @cached_property
    def spelling(self) -> list[bytes]:
        """The UTF-8 bytes of each token: V of them, the added ones included."""
        spelled = self.spell()
        if self.end is not None and self.end_number is not None:
            spelled[self.end_number] = self.end.encode()
        return spelled

    def spell(self) -> list[bytes]:
        """Exact where tokens are bytes; else their text, with a space where a word begins.

        SentencePiece writes the bytes of what it has no piece for as ``<0x0A>`` (Kudo and Richardson, "SentencePiece",
        EMNLP 2018, Demo).
        """
        size = 1 + max(self._fast.get_vocab(with_added_tokens=True).values())
        tokens = [self._fast.id_to_token(number) or "" for number in range(size)]
        if self._is_of_bytes:
            byte_of = _byte_of_character()
            added = {number for number, token in self._fast.get_added_tokens_decoder().items()}
            return [
                token.encode() if number in added else bytes(byte_of[c] for c in token)
                for number, token in enumerate(tokens)
            ]
        model = json.loads(self.model)["model"]
        is_byte = SINGLE_BYTE.fullmatch if model.get("byte_fallback") else lambda token: None
        inside = model.get("continuing_subword_prefix") or ""
        return [
            bytes([int(token[3:5], 16)])
            if is_byte(token)
            else token.removeprefix(inside).replace("\u2581", " ").encode()
            for token in tokens
        ]

    @cached_property
    def _is_of_bytes(self) -> bool:
        return (json.loads(self.model).get("decoder") or {}).get("type") == "ByteLevel"

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, as far as they tell it."""
        if self._is_of_bytes:
            return super().decode(tokens)
        text: str = self._fast.decode(list(tokens), skip_special_tokens=True)
        return text
