"""What every network is that continues text. Shape legend: B batch, T tokens, V vocabulary."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

State = tuple[Tensor, ...]
"""What a network remembers of the tokens so far; the rows of a batch come first in each tensor."""


class LanguageNetwork(nn.Module, ABC):
    """From tokens to the logits of the token behind each of them, which depend on it and those before it alone."""

    block_size: int | None = None
    """How many tokens it can look back on at most; None: any number."""
    carries_state: bool = False
    """Whether training carries its state from a batch to the one that continues it (truncated backpropagation)."""

    @abstractmethod
    def forward(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Read tokens.

        Args:
            token: ``(B, T)``, int64.
            state: What the call before gave, or `empty_state`, to go on from; None: nothing came before, and a network
                whose state costs memory need not make one.

        Returns:
            Logits ``(B, T, V)``, and the state behind the last token, if there is one.
        """

    @abstractmethod
    def tables(self) -> list[nn.Module]:
        """The parts whose weights have a row for each token of the vocabulary, which Muon leaves to AdamW."""

    @abstractmethod
    def empty_state(self, batch_size: int) -> State:
        """The state before the first token."""
