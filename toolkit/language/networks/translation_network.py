"""What every network is that translates.

Padding stands behind a text and is told by the text's length: which number it has, and how much there is, changes
nothing. Shape legend: B batch, S source tokens, T target tokens, C width, V vocabulary.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

Memory = tuple[Tensor, ...]
"""What an encoder made of source texts; the rows of a batch come first in each tensor."""
Cache = tuple[Tensor, ...]
"""What a decoder remembers of the tokens so far, likewise."""


class TranslationNetwork(nn.Module, ABC):
    """From source tokens, and the target tokens so far, to the logits of the target token behind each of them."""

    @abstractmethod
    def encode(self, source: Tensor, source_length: Tensor) -> Memory:
        """Read source texts.

        Args:
            source: ``(B, S)``, int64.
            source_length: ``(B,)``, int64, at least 1: how many tokens of each row are text.
        """

    @abstractmethod
    def empty_cache(self, memory: Memory) -> Cache:
        """Before the first target token."""

    @abstractmethod
    def decode(
        self, token: Tensor, memory: Memory, cache: Cache | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Cache | None]:
        """Read target tokens; each sees itself and those before it.

        Args:
            token: ``(B, T)``, int64.
            memory: Of the source texts.
            cache: What the call before gave, or `empty_cache`, to go on from; None: these are the first tokens, and
                there is no further call.
            weights: A list to which ``(B, T, S)`` is added: how much each token attends to each of the source.

        Returns:
            Features ``(B, T, C)``, and the cache behind the last token where there was one.
        """

    @abstractmethod
    def logits(self, feature: Tensor) -> Tensor:
        """Of the next token: ``(..., V)`` for features ``(..., C)``."""

    def forward(self, source: Tensor, source_length: Tensor, token: Tensor, counts: Tensor) -> Tensor:
        """Logits ``(N, V)`` behind the N target tokens that count, in the order of the rows.

        Padding is left out before the largest product.

        Args:
            source: ``(B, S)``, int64.
            source_length: ``(B,)``, int64.
            token: ``(B, T)``, int64.
            counts: ``(B, T)``, bool.
        """
        feature, _ = self.decode(token, self.encode(source, source_length))
        return self.logits(feature[counts])
