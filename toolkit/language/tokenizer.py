"""From text to token numbers and back: what every tokenizer is. Shape legend: N tokens, V vocabulary."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from toolkit.allow_list import is_allowed
from toolkit.errors import UserError


class Tokenizer(ABC):
    """Spells any text with the tokens of a vocabulary, without loss.

    A config names a tokenizer with its settings; the DataModule trains it on its training split, and hands the result,
    as plain values, to the task, whose checkpoint keeps it: `vocabulary` and `restore`.

    Args:
        end: The text that the end of a document stands for: its token is the last one. None: there is no such token.
    """

    pretrained: str | None = None
    """Folder or name of the pretrained model whose tokens these are, if any."""

    def __init__(self, end: str | None) -> None:
        self.end = end

    @abstractmethod
    def trained(self, texts: Iterable[str], end: str | None) -> Self:
        """A tokenizer of the same settings whose vocabulary is that of texts.

        Args:
            texts: Of the training split alone.
            end: The new tokenizer's.
        """

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Of the constructor, plain, that make this tokenizer anew."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Token numbers of a text: ``(N,)``, uint32.

        Raises:
            UserError: The vocabulary cannot spell the text.
        """

    @abstractmethod
    def spell(self) -> list[bytes]:
        """The UTF-8 bytes of each token but the end."""

    @cached_property
    def spelling(self) -> list[bytes]:
        """The UTF-8 bytes of each token: V of them."""
        return self.spell() + ([] if self.end is None else [self.end.encode()])

    @property
    def size(self) -> int:
        """V."""
        return len(self.spelling)

    @property
    def end_token(self) -> int | None:
        """The number of the token that ends a document."""
        return None if self.end is None else self.size - 1

    def token_bytes(self) -> list[int]:
        """How many bytes of UTF-8 each token stands for: V numbers."""
        return [len(token) for token in self.spelling]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are no UTF-8, which only a model writes, are the replacement character."""
        return b"".join(self.spelling[token] for token in tokens).decode("utf-8", errors="replace")

    def framed(self, tokens: np.ndarray, longest: int | None = None) -> np.ndarray:
        """The tokens of a text as a classifier reads them: cut, between the marks that a pretrained model expects.

        Args:
            tokens: Of `encode`.
            longest: How many there may be, marks included; None: any number.
        """
        return tokens[:longest]

    def vocabulary(self) -> dict[str, Any]:
        """This tokenizer as plain values."""
        cls = type(self)
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": self.arguments()}


def refuse_half_characters(text: str) -> None:
    r"""Refuse what Python's strings may hold and UTF-8 may not: JSON and the command line bring it in.

    Raises:
        UserError: A surrogate stands alone; with its position.

    >>> refuse_half_characters("ok \U0001f600")
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"tokenizer: {text[error.start]!r} at position {error.start} is half a character (a lone surrogate), which "
            "UTF-8 cannot write; mend the text or leave it out."
        ) from error


def restore(vocabulary: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of `Tokenizer.vocabulary`.

    Raises:
        UserError: Its class is not allowed, or cannot be imported.
    """
    path = str(vocabulary.get("class_path"))
    module, _, name = path.rpartition(".")
    if not module or not is_allowed(path):
        raise UserError(f"tokenizer: {path!r} is in no allowed package; run from the folder that holds it.")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"tokenizer: {path!r} cannot be imported ({error}).") from error
    if not (isinstance(cls, type) and issubclass(cls, Tokenizer)):
        raise UserError(f"tokenizer: {path!r} is no Tokenizer.")
    tokenizer: Tokenizer = cls(**vocabulary["init_args"])
    return tokenizer
