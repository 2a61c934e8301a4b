"""What every task is that writes text. Shape legend: B texts at once, N tokens, V vocabulary."""

import codecs
import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform, sample_keys
from toolkit.language.tokenizer import Tokenizer, refuse_half_characters
from toolkit.precision import float64

DRAW = 201
"""Stream of `toolkit.keys`."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: Divides the logits; 0 takes the most probable token.
        top_k: Only among so many of the most probable tokens.
        top_p: Only among the most probable tokens that together have this probability (Holtzman et al., "The Curious
            Case of Neural Text Degeneration", ICLR 2020).

    Raises:
        UserError: A number is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        """Check."""
        if self.temperature < 0:
            raise UserError(f"temperature: need a number >= 0, got {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k: need at least 1, got {self.top_k}.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p: need 0 < top_p <= 1, got {self.top_p}.")

    def probability(self, logits: Tensor) -> Tensor:
        """Of each next token: ``(B, V)``, as `toolkit.precision.float64`, for logits ``(B, V)``.

        >>> Sampling(top_k=1).probability(torch.tensor([[0.0, 2.0, 1.0]])).tolist()
        [[0.0, 1.0, 0.0]]
        """
        logits = float64(logits)
        if self.temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).double()
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[1]:
            least = logits.topk(self.top_k, dim=1).values[:, -1:]  # (B, 1)
            logits = logits.masked_fill(logits < least, -torch.inf)
        probability = logits.softmax(dim=1)
        if self.top_p is not None:
            falling, order = probability.sort(dim=1, descending=True)
            above = falling.cumsum(dim=1) - falling  # (B, V), of the tokens that are more probable
            out = (above >= self.top_p).scatter(1, order, above >= self.top_p)
            probability = probability.masked_fill(out, 0.0)
        return probability / probability.sum(dim=1, keepdim=True)

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Tokens ``(B,)`` for logits ``(B, V)``, by uniform numbers ``(B,)`` in ``[0, 1)``."""
        cumulated = self.probability(logits).cumsum(dim=1)  # (B, V)
        place = float64(uniform)[:, None] * cumulated[:, -1:]
        token = torch.searchsorted(cumulated, place, right=True)[:, 0]
        return token.clamp(max=logits.shape[1] - 1).to(logits.device)


class TextGenerator(ABC):
    """Writes text: the n-th of a seed is the same whatever others are written with it, and no generator is moved."""

    tokenizer: Tokenizer

    @abstractmethod
    def continuations(self, prompt: Tensor, uniform: Tensor, sampling: Sampling) -> Iterator[Tensor]:
        """Tokens behind a prompt, one after another.

        Args:
            prompt: ``(B, N)``, int64, N at least 1.
            uniform: ``(B, M)`` in ``[0, 1)``: what the M tokens are drawn by.
            sampling: How.

        Yields:
            ``(B,)``, int64, M times.
        """

    def prompt(self, text: str) -> list[int]:
        """What a text begins with: the end of the document before, where there is one, then the text.

        Raises:
            UserError: The vocabulary cannot spell it, or it is no Unicode.
        """
        refuse_half_characters(text)
        tokens = [int(token) for token in self.tokenizer.encode(text)]
        return tokens if tokens and self.tokenizer.end is None else [first_token(self.tokenizer), *tokens]

    @torch.no_grad()
    def write(
        self, text: str, tokens: int, count: int = 1, seed: int = 0, sampling: Sampling | None = None
    ) -> list[str]:
        """Continuations of a text, each up to the end of its document.

        Args:
            text: The prompt; may be empty.
            tokens: How many at most.
            count: How many continuations.
            seed: Which.
            sampling: How; by the model's own probabilities if None.

        Returns:
            ``count`` texts, the prompt not included.
        """
        drawn = list(self._drawn(text, tokens, torch.arange(count), seed, sampling or Sampling()))
        rows = torch.stack(drawn, dim=1).tolist() if drawn else [[] for _ in range(count)]
        return [self.tokenizer.decode(self._until_end(row)) for row in rows]

    @torch.no_grad()
    def stream(
        self, text: str, tokens: int, number: int = 0, seed: int = 0, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Pieces of the ``number``-th continuation of `write`, as soon as each can be spelled."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in self._drawn(text, tokens, torch.tensor([number]), seed, sampling or Sampling()):
            if int(token) == self.tokenizer.end_token:
                break
            if piece := decoder.decode(self.tokenizer.spelling[int(token)]):
                yield piece
        if piece := decoder.decode(b"", final=True):
            yield piece

    def _drawn(self, text: str, tokens: int, numbers: Tensor, seed: int, sampling: Sampling) -> Iterator[Tensor]:
        assert isinstance(self, torch.nn.Module)
        device = next(self.parameters()).device
        prompt = torch.tensor([self.prompt(text)], device=device).expand(len(numbers), -1)
        uniform = keyed_uniform(sample_keys(seed, 0, numbers.to(device)), DRAW, tokens)  # (B, tokens)
        was_training = self.training
        self.eval()
        try:
            with _eager():
                yield from self.continuations(prompt, uniform, sampling)
        finally:
            self.train(was_training)

    def _until_end(self, tokens: list[int]) -> list[int]:
        end = self.tokenizer.end_token
        return tokens[: tokens.index(end)] if end in tokens else tokens


def _eager() -> contextlib.AbstractContextManager[None]:
    """Each length of the cache would be compiled anew. Where nothing is compiled, torch's compiler takes a second."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


def first_token(tokenizer: Tokenizer) -> int:
    """What a text begins behind: the end of the document before, else of a line, else the first token there is."""
    if tokenizer.end_token is not None:
        return tokenizer.end_token
    try:
        return int(tokenizer.encode("\n")[0])
    except UserError:
        return 0
