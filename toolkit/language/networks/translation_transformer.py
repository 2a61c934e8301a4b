"""The encoder-decoder transformer.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017; normalised before each part, not behind it (Xiong et al., "On
Layer Normalization in the Transformer Architecture", ICML 2020).
Shape legend: B batch, S source tokens, T target tokens, P tokens in the cache, V vocabulary, C width, h heads, D = C/h.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.short_attention import attend_short, attention_weights
from toolkit.language.networks.translation_network import Cache, Memory, TranslationNetwork
from toolkit.nn.byte_dropout import ByteDropout
from toolkit.precision import float64

Tied = Literal["all", "target", "none"]


class TranslationAttention(nn.Module):
    """Multi-head attention.

    Args:
        dim: C.
        heads: h; divides C.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens ``(B, S, C)``: each ``(B, h, S, D)``."""
        B, S, C = x.shape
        k, v = self.key_value(x).view(B, S, 2, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return k, v

    def queries(self, x: Tensor) -> Tensor:
        """Of tokens ``(B, T, C)``: ``(B, h, T, D)``."""
        B, T, C = x.shape
        q: Tensor = self.query(x).view(B, T, self.heads, C // self.heads).transpose(1, 2)
        return q

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
        """Tokens ``(B, T, C)`` that look at keys and values, those of which the mask ``(B, 1, 1, S)`` is true."""
        y = attend_short(self.queries(x), k, v, mask, is_causal)  # (B, h, T, D)
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return out

    def weights(self, x: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        """How much each token looks at each of the others, mean over heads: ``(B, T, S)``."""
        return attention_weights(self.queries(x), k, mask).float().mean(dim=1)


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them.

    Args:
        dim: C.
        hidden: Width between them.
        dropout: Probability between them.
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.ReLU(inplace=True), ByteDropout(dropout), nn.Linear(hidden, dim))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each on normalised input and added to it.

    Args:
        dim: C.
        heads: h.
        hidden: Of the feed-forward network.
        dropout: Probability on what is added.
        hidden_dropout: Probability within the feed-forward network.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, hidden_dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = TranslationAttention(dim, heads)
        self.mlp = FeedForward(dim, hidden, hidden_dropout)
        self.dropout = ByteDropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens ``(B, S, C)`` to tokens."""
        y = self.norm1(x)
        x = x + self.dropout(self.attention(y, *self.attention.keys_values(y), mask))
        out: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return out


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, and a feed-forward network; arguments as `EncoderLayer`."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, hidden_dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = TranslationAttention(dim, heads)
        self.cross = TranslationAttention(dim, heads)
        self.mlp = FeedForward(dim, hidden, hidden_dropout)
        self.dropout = ByteDropout(dropout)

    def forward(
        self, x: Tensor, source: Memory, mask: Tensor, cache: Cache | None, weights: list[Tensor] | None
    ) -> tuple[Tensor, Cache]:
        """Tokens ``(B, T, C)`` to tokens, and keys and values ``(B, h, P + T, D)`` of all so far."""
        y = self.norm1(x)
        k, v = self.attention.keys_values(y)
        P = 0 if cache is None else cache[0].shape[2]
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)  # (B, h, P + T, D)
        T = x.shape[1]
        past = torch.ones(T, P + T, dtype=torch.bool, device=x.device).tril(P) if P and T > 1 else None
        x = x + self.dropout(self.attention(y, k, v, past, is_causal=P == 0))
        y = self.norm2(x)
        if weights is not None:
            weights.append(self.cross.weights(y, source[0], mask))
        x = x + self.dropout(self.cross(y, *source, mask))
        x = x + self.dropout(self.mlp(self.norm3(x)))
        return x, (k, v)


class TranslationTransformer(TranslationNetwork):
    """Pre-norm transformer whose decoder looks at the encoder's output.

    Args:
        source_vocabulary_size: Tokens of the source's vocabulary.
        target_vocabulary_size: V.
        dim: C; even.
        encoder_depth: Layers of the encoder.
        decoder_depth: Layers of the decoder.
        heads: h; divides C.
        hidden: Width of the feed-forward networks; 4 C if None.
        dropout: Probability on embeddings and on what each part adds.
        hidden_dropout: Probability within the feed-forward networks.
        tied: Which embeddings are one: "all", which needs a joint vocabulary, source, target and the weights of the
            logits; "target", the latter two (Press and Wolf, EACL 2017); or "none".

    Raises:
        UserError: Sizes do not fit each other, or one is below 1.

    >>> net = TranslationTransformer(50, 50, dim=16, heads=2, encoder_depth=1, decoder_depth=1)
    >>> source, token = torch.zeros(2, 7, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long)
    >>> net(source, torch.tensor([7, 4]), token, torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([10, 50])
    """

    def __init__(
        self,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        dim: int = 128,
        encoder_depth: int = 3,
        decoder_depth: int = 3,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
        hidden_dropout: float = 0.0,
        tied: Tied = "all",
    ) -> None:
        super().__init__()
        _check(source_vocabulary_size, target_vocabulary_size, dim, encoder_depth, decoder_depth, heads, tied)
        width = 4 * dim if hidden is None else hidden
        self.target = nn.Embedding(target_vocabulary_size, dim)
        self.source = self.target if tied == "all" else nn.Embedding(source_vocabulary_size, dim)
        self.head = nn.Linear(dim, target_vocabulary_size, bias=False) if tied == "none" else None
        self.dropout = ByteDropout(dropout)
        args = (dim, heads, width, dropout, hidden_dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*args) for _ in range(encoder_depth))
        self.decoder = nn.ModuleList(DecoderLayer(*args) for _ in range(decoder_depth))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as Glorot did; embeddings, which are scaled by sqrt(C), normal with 1 / sqrt(C)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)

    def encode(self, source: Tensor, source_length: Tensor) -> Memory:
        """Which tokens are text ``(B, 1, 1, S)``, then keys and values ``(B, h, S, D)`` for each decoder layer."""
        mask = (torch.arange(source.shape[1], device=source.device) < source_length[:, None])[:, None, None]
        x = self._embedded(self.source, source, 0)  # (B, S, C)
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        crosses = [layer.cross for layer in self.decoder if isinstance(layer, DecoderLayer)]
        return mask, *(part for cross in crosses for part in cross.keys_values(x))

    def empty_cache(self, memory: Memory) -> Cache:
        """Keys and values of no token."""
        return tuple(part[:, :, :0] for part in memory[1:])

    def decode(
        self, token: Tensor, memory: Memory, cache: Cache | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Cache | None]:
        """Features, and keys and values ``(B, h, P + T, D)`` of each layer; the last layer's attention as weights."""
        mask, *source = memory
        x = self._embedded(self.target, token, 0 if cache is None else cache[0].shape[2])  # (B, T, C)
        caches: list[Tensor] = []
        last = len(self.decoder) - 1
        for i, layer in enumerate(self.decoder):
            own = slice(2 * i, 2 * i + 2)
            shown = weights if i == last else None
            x, made = layer(x, source[own], mask, None if cache is None else cache[own], shown)
            caches += made
        return self.decoder_norm(x), None if cache is None else tuple(caches)

    def logits(self, feature: Tensor) -> Tensor:
        """By the target's embeddings, or weights of their own."""
        out: Tensor = F.linear(feature, self.target.weight) if self.head is None else self.head(feature)
        return out

    def _embedded(self, embedding: nn.Embedding, token: Tensor, first: int) -> Tensor:
        C = embedding.embedding_dim
        x = embedding(token) * math.sqrt(C) + sinusoids(first, token.shape[1], C, embedding.weight)
        out: Tensor = self.dropout(x)
        return out


def sinusoids(first: int, length: int, width: int, like: Tensor) -> Tensor:
    """Positions from ``first`` on, ``(length, C)``: sines, then cosines of wavelengths from 2 pi to 20,000 pi."""
    frequency = 10_000.0 ** (-float64(torch.arange(0, width, 2, device=like.device)) / width)  # (C/2,)
    angle = float64(torch.arange(first, first + length, device=like.device))[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(like.dtype).to(like.device)


def _check(source: int, target: int, dim: int, encoder_depth: int, decoder_depth: int, heads: int, tied: Tied) -> None:
    if min(source, target, dim, encoder_depth, decoder_depth, heads) < 1:
        raise UserError(
            f"TranslationTransformer: need sizes of at least 1, got vocabularies of {source} and {target}, dim {dim}, "
            f"encoder_depth {encoder_depth}, decoder_depth {decoder_depth}, heads {heads}."
        )
    if dim % heads or dim % 2:
        raise UserError(f"heads: {heads} does not divide dim, which is {dim}, or that is odd; such as {64 * heads}.")
    if tied == "all" and source != target:
        raise UserError(
            f"tied: 'all' needs a joint vocabulary, but they have {source} and {target} tokens; write tied: target, or "
            "leave data.init_args.target_tokenizer out."
        )
