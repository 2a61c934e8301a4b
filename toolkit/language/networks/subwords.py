"""From tokens to words and their pieces.

Shape legend: B batch, T tokens, W words of the batch, L tokens of the longest word and two marks, N n-grams.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.bag_of_embeddings import MULTIPLIER
from toolkit.language.tokenizer import restore

MIXER = 0x2545F4914F6CDD1D
"""Odd, with bits everywhere: spreads the differences of two hashes over all their bits."""
SPACE, LETTER, SIGN = range(3)
NOTHING, MARK = range(2)
"""Of the grid: behind a word; before its first and after its last token."""


class Words(NamedTuple):
    """The words of a batch, text by text, and the n-grams of their tokens, word by word."""

    row: Tensor
    """``(W,)``: the text of each."""
    code: Tensor
    """``(W,)``: a hash of all its tokens, of 64 bits."""
    ngram: Tensor
    """``(N,)``: hashes of the n-grams of 64 bits, word by word."""
    length: Tensor
    """``(W,)``: how many n-grams each word has."""


class Subwords(nn.Module):
    """Finds the words of texts, and n-grams of the tokens in them; nothing here is learned.

    Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL 2017: a word counts as itself and as its
    n-grams, marks at its two ends included, so a word that no training text had is known by its parts. A word is a run
    of letters, digits and apostrophes, or one of other signs; a text of spaces alone is one word, its first token.

    Args:
        vocabulary: The trained tokenizer as plain values; over characters the n-grams are fastText's.
        shortest: Tokens of the shortest n-grams, marks included; 2 at least.
        longest: Of the longest ones.

    Raises:
        UserError: The lengths are no range.
    """

    kind: Tensor
    spaced: Tensor

    def __init__(self, vocabulary: Mapping[str, Any], shortest: int = 3, longest: int = 6) -> None:
        super().__init__()
        if not 2 <= shortest <= longest:
            raise UserError(
                f"model.init_args.net: need 2 <= shortest <= longest n-grams, got {shortest} and {longest}."
            )
        self.shortest, self.longest = shortest, longest
        spelled = [token.decode(errors="replace") for token in restore(vocabulary).spelling]
        kinds = torch.tensor([_kind(text) for text in spelled])
        self.register_buffer("kind", kinds, persistent=False)  # (V,)
        spaced = torch.tensor([text[:1].isspace() for text in spelled])  # such as a byte pair token
        self.register_buffer("spaced", spaced, persistent=False)  # (V,)

    def forward(self, token: Tensor, mask: Tensor) -> Words:
        """Tokens ``(B, T)``, and ``(B, T)`` that is true where one stands."""
        token = token.where(mask, 0)
        kind = self.kind[token].where(mask, SPACE)
        starts = (kind != SPACE) & ((kind != F.pad(kind[:, :-1], (1, 0))) | self.spaced[token])
        first = torch.arange(token.shape[1], device=token.device) == 0  # (T,)
        starts = starts | (first & ~starts.any(dim=1, keepdim=True))
        grid = _grid(token, starts, (kind != SPACE) | starts)  # (W, L)
        whole = torch.zeros_like(grid[:, 0])
        for column in grid.unbind(dim=1):
            whole = (whole * MULTIPLIER + column).where(column != NOTHING, whole)  # wraps, which a hash may
        codes, there = [grid[:, :0]], [grid[:, :0] != NOTHING]
        code = grid
        for n in range(1, min(self.longest, grid.shape[1])):
            code = code[:, :-1] * MULTIPLIER + grid[:, n:]  # (W, L - n)
            if n + 1 >= self.shortest:
                codes.append(code)
                there.append(grid[:, n:] != NOTHING)  # an n-gram is there if its last token is
        found = torch.cat(there, dim=1)
        return Words(starts.nonzero()[:, 0], whole, torch.cat(codes, dim=1)[found], found.sum(dim=1))


def bucket(code: Tensor, buckets: int) -> Tensor:
    """The row of a table of so many that each hash falls on."""
    mixed = (code ^ (code >> 32)) * MIXER
    return (mixed ^ (mixed >> 32)) % buckets


def pairs(words: Words) -> tuple[Tensor, Tensor]:
    """Hashes of every two words that follow each other in a text, and the text of each: both ``(P,)``."""
    together = words.row[1:] == words.row[:-1]  # (W - 1,)
    code = (words.code[:-1] ^ (words.code[:-1] >> 32)) * MULTIPLIER + words.code[1:]
    return code[together], words.row[1:][together]


def _kind(text: str) -> int:
    sign = text.lstrip()[:1]
    if not sign:
        return SPACE
    return LETTER if sign.isalnum() or sign in "'\N{REPLACEMENT CHARACTER}" else SIGN  # the bytes of a rare character


def _grid(token: Tensor, starts: Tensor, inside: Tensor) -> Tensor:
    """A row ``(L,)`` a word: a mark, its tokens, a mark, and nothing."""
    place = torch.arange(token.shape[1], device=token.device)  # (T,)
    within = place - place.where(starts, 0).cummax(dim=1).values  # (B, T)
    number = (starts.flatten().cumsum(0) - 1).view_as(token)[inside]
    length = number.bincount(minlength=int(starts.sum()))  # (W,)
    grid = token.new_full((len(length), int(length.max()) + 2), NOTHING)
    grid[number, within[inside] + 1] = token[inside] + 2
    grid[:, 0] = MARK
    grid[torch.arange(len(length), device=token.device), length + 1] = MARK
    return grid
