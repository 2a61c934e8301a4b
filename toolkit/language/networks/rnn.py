"""Recurrent networks over tokens. Shape legend: B batch, T tokens, V vocabulary, E embedding, H hidden, L layers."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.language_network import LanguageNetwork, State


class RNN(LanguageNetwork):
    """Embedding, LSTM or GRU, logits; trained by truncated backpropagation through time.

    Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation, 1997; Cho et al., "Learning Phrase
    Representations using RNN Encoder-Decoder", EMNLP 2014. Its state is carried from batch to batch where the data are
    streams.

    Args:
        vocabulary_size: V.
        cell: Which.
        hidden: H.
        layers: L.
        embedding: E; H if None.
        dropout: Probability on the embeddings, between layers, and before the logits.
        tied: Use the embeddings as weights of the logits (Press and Wolf, "Using the Output Embedding to Improve
            Language Models", EACL 2017), behind a projection to E where H differs.

    Raises:
        UserError: A size below 1, or a dropout outside its range.

    >>> import torch
    >>> logits, state = RNN(vocabulary_size=65, hidden=16)(torch.zeros(2, 8, dtype=torch.long))
    >>> logits.shape, [part.shape for part in state]
    (torch.Size([2, 8, 65]), [torch.Size([2, 1, 16]), torch.Size([2, 1, 16])])
    """

    carries_state = True

    def __init__(
        self,
        vocabulary_size: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 256,
        layers: int = 1,
        embedding: int | None = None,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        E = hidden if embedding is None else embedding
        if min(vocabulary_size, hidden, layers, E) < 1 or not 0 <= dropout < 1:
            raise UserError(
                f"RNN: need sizes of at least 1 and 0 <= dropout < 1, got vocabulary_size {vocabulary_size}, hidden "
                f"{hidden}, layers {layers}, embedding {E}, dropout {dropout}."
            )
        self.layers, self.hidden = layers, hidden
        self.embedding = nn.Embedding(vocabulary_size, E)
        between = dropout if layers > 1 else 0.0
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.rnn = kind(E, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, E, bias=False) if tied and hidden != E else None
        self.head = None if tied else nn.Linear(hidden, vocabulary_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: torch's own, but for small embeddings where they are also weights of logits."""
        for module in (self.rnn, self.project, self.head):
            if module is not None:
                module.reset_parameters()
        E = self.embedding.embedding_dim
        nn.init.normal_(self.embedding.weight, std=E**-0.5 if self.head is None else 1.0)

    def forward(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Logits ``(B, T, V)`` and state: ``(B, L, H)`` of the GRU; of the LSTM one more for its memory."""
        x = self.dropout(self.embedding(token))  # (B, T, E)
        parts = None if state is None else [part.transpose(0, 1).contiguous() for part in state]  # (L, B, H)
        before = parts[0] if parts is not None and len(parts) == 1 else None if parts is None else tuple(parts)
        y, after = self.rnn(x, before)  # (B, T, H)
        y = self.dropout(y)
        if self.project is not None:
            y = self.project(y)  # (B, T, E)
        logits = F.linear(y, self.embedding.weight) if self.head is None else self.head(y)  # (B, T, V)
        ends = after if isinstance(after, tuple) else (after,)
        return logits, tuple(part.transpose(0, 1) for part in ends)

    def tables(self) -> list[nn.Module]:
        """Embeddings and head."""
        return [self.embedding] if self.head is None else [self.embedding, self.head]

    def empty_state(self, batch_size: int) -> State:
        """Zeros."""
        zero = self.embedding.weight.new_zeros(batch_size, self.layers, self.hidden)
        return (zero, zero) if isinstance(self.rnn, nn.LSTM) else (zero,)
