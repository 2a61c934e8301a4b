"""The recurrent encoder-decoder with attention.

Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015.
Shape legend: B batch, S source tokens, T target tokens, V vocabulary, E embedding, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from toolkit.errors import UserError
from toolkit.language.networks.translation_network import Cache, Memory, TranslationNetwork
from toolkit.nn.byte_dropout import ByteDropout


class AttentionGRU(TranslationNetwork):
    """A GRU in both directions reads; another one writes, and looks at what was read before each token.

    As in the paper, but for a linear layer with tanh, not maxout, before the logits, and for dropout.

    Args:
        source_vocabulary_size: Tokens of the source's vocabulary.
        target_vocabulary_size: V.
        embedding: E.
        hidden: H.
        dropout: Probability on embeddings, on what was read, and before the logits.
        tied: Use the target's embeddings as weights of the logits.

    Raises:
        UserError: A size below 1.

    >>> net = AttentionGRU(50, 60, embedding=8, hidden=16)
    >>> source, token = torch.zeros(2, 7, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long)
    >>> net(source, torch.tensor([7, 4]), token, torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([10, 60])
    """

    def __init__(
        self,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        embedding: int = 128,
        hidden: int = 256,
        dropout: float = 0.1,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if min(source_vocabulary_size, target_vocabulary_size, embedding, hidden) < 1:
            raise UserError(
                f"AttentionGRU: need sizes of at least 1, got vocabularies of {source_vocabulary_size} and "
                f"{target_vocabulary_size}, embedding {embedding}, hidden {hidden}."
            )
        E, H = embedding, hidden
        self.source = nn.Embedding(source_vocabulary_size, E)
        self.target = nn.Embedding(target_vocabulary_size, E)
        self.encoder = nn.GRU(E, H, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(H, H)
        self.key, self.query = nn.Linear(2 * H, H), nn.Linear(H, H, bias=False)
        self.energy = nn.Linear(H, 1, bias=False)
        self.decoder = nn.GRUCell(E + 2 * H, H)
        self.readout = nn.Linear(E + 3 * H, E)
        self.head = None if tied else nn.Linear(E, target_vocabulary_size)
        self.dropout = ByteDropout(dropout)
        for module in (self.source, self.target):
            nn.init.normal_(module.weight, std=E**-0.5)

    def encode(self, source: Tensor, source_length: Tensor) -> Memory:
        """Which tokens are text ``(B, S)``, what was read ``(B, S, 2 H)``, keys ``(B, S, H)``, a state ``(B, H)``."""
        S = source.shape[1]
        mask = torch.arange(S, device=source.device) < source_length[:, None]
        packed = pack_padded_sequence(
            self.dropout(self.source(source)), source_length.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, last = self.encoder(packed)
        read, _ = pad_packed_sequence(outputs, batch_first=True, total_length=S)
        read = self.dropout(read)
        return mask, read, self.key(read), self.bridge(last[1]).tanh()

    def empty_cache(self, memory: Memory) -> Cache:
        """The decoder's first state."""
        return (memory[3],)

    def decode(
        self, token: Tensor, memory: Memory, cache: Cache | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Cache | None]:
        """One token after another; the cache is the state ``(B, H)``."""
        mask, read, key, first = memory
        state = first if cache is None else cache[0]  # (B, H)
        embedded = self.dropout(self.target(token))  # (B, T, E)
        features, attended = [], []
        for x in embedded.unbind(1):
            energy = self.energy((key + self.query(state)[:, None]).tanh())[:, :, 0]  # (B, S)
            weight = energy.masked_fill(~mask, -torch.inf).softmax(dim=1).to(read.dtype)
            context = (weight[:, None] @ read)[:, 0].to(x.dtype)  # (B, 2 H)
            state = self.decoder(torch.cat([x, context], dim=1), state.to(x.dtype))
            features.append(torch.cat([x, context, state], dim=1))
            attended.append(weight)
        if weights is not None:
            weights.append(torch.stack(attended, dim=1).float())
        feature = self.readout(torch.stack(features, dim=1)).tanh()  # (B, T, E)
        return self.dropout(feature), None if cache is None else (state,)

    def logits(self, feature: Tensor) -> Tensor:
        """By a layer of their own, or the target's embeddings."""
        out: Tensor = F.linear(feature, self.target.weight) if self.head is None else self.head(feature)
        return out
