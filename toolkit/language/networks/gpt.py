"""The decoder-only transformer.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2).
Shape legend: B batch, T tokens, S tokens in the cache, V vocabulary, C width of a token, h heads, D = C / h.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.language_network import LanguageNetwork, State

MLP_RATIO = 4
"""Hidden width of a block's MLP, in multiples of C."""
Activation = Literal["gelu", "relu2"]


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a token sees itself and those before it.

    Args:
        dim: C.
        heads: h; divides C.
        bias: Whether the linear layers have one.
        dropout: Probability on the attention weights and after the projection.
        qk_norm: Normalise queries and keys of each head (Henry et al., "Query-Key Normalization for Transformers",
            EMNLP Findings 2020; here by their root mean square).
    """

    def __init__(self, dim: int, heads: int, bias: bool, dropout: float, qk_norm: bool) -> None:
        super().__init__()
        self.heads, self.p, self.qk_norm = heads, dropout, qk_norm
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor | None, cache: State | None) -> tuple[Tensor, State]:
        """Tokens ``(B, T, C)`` to tokens, and keys and values ``(B, h, S + T, D)`` of all so far."""
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, C // self.heads)  # (B, T, 3, h, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, T, D)
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        S = 0 if cache is None else cache[0].shape[2]
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)  # (B, h, S + T, D)
        mask = torch.ones(T, S + T, dtype=torch.bool, device=x.device).tril(S) if S and T > 1 else None
        p = self.p if self.training else 0.0
        y = attend(q, k, v, mask, p, is_causal=S == 0)  # (B, h, T, D)
        out: Tensor = self.dropout(self.proj(y.transpose(1, 2).reshape(B, T, C)))  # (B, T, C)
        return out, (k, v)


class TransformerMLP(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        dim: C.
        bias: Whether the linear layers have one.
        dropout: Probability after them.
        activation: GELU, or the square of ReLU (So et al., "Primer", NeurIPS 2021).
    """

    def __init__(self, dim: int, bias: bool, dropout: float, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc = nn.Linear(dim, MLP_RATIO * dim, bias=bias)
        self.proj = nn.Linear(MLP_RATIO * dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(B, T, C)`` to tokens."""
        y = self.fc(x)  # (B, T, 4 C)
        y = F.gelu(y) if self.activation == "gelu" else F.relu(y).square()
        out: Tensor = self.dropout(self.proj(y))  # (B, T, C)
        return out


class CausalBlock(nn.Module):
    """Attention and MLP, each on normalised input and added to it.

    Args:
        dim: C.
        heads: h; divides C.
        bias: Whether linear layers and normalisations have one.
        dropout: Probability on the attention weights and after each of both.
        qk_norm: See `CausalAttention`.
        activation: See `TransformerMLP`.
    """

    def __init__(self, dim: int, heads: int, bias: bool, dropout: float, qk_norm: bool, activation: Activation) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, bias=bias)
        self.attention = CausalAttention(dim, heads, bias, dropout, qk_norm)
        self.norm2 = nn.LayerNorm(dim, bias=bias)
        self.mlp = TransformerMLP(dim, bias, dropout, activation)

    def forward(self, x: Tensor, rotation: Tensor | None, cache: State | None) -> tuple[Tensor, State]:
        """Tokens ``(B, T, C)`` to tokens, and the cache with them."""
        y, cache = self.attention(self.norm1(x), rotation, cache)
        x = x + y
        x = x + self.mlp(self.norm2(x))
        return x, cache


class GPT(LanguageNetwork):
    """Pre-norm transformer whose tokens see themselves and those before them.

    Args:
        vocabulary_size: V.
        block_size: Tokens it can look back on.
        dim: C.
        depth: Number of blocks.
        heads: h; divides C.
        positions: "learned" embeddings (GPT-2), or "rotary": queries and keys are turned by their position (Su et al.,
            "RoFormer", 2021).
        bias: Whether linear layers and normalisations have one.
        dropout: Probability on embeddings, attention weights, and after attention and MLP.
        tied: Use the embeddings as weights of the logits.
        qk_norm: Normalise queries and keys.
        activation: GELU, or the square of ReLU.

    Raises:
        UserError: Heads do not divide C, or a size below 1.

    >>> logits, state = GPT(vocabulary_size=65, block_size=8, dim=16, heads=2)(torch.zeros(2, 8, dtype=torch.long))
    >>> logits.shape, state
    (torch.Size([2, 8, 65]), None)
    """

    angles: Tensor | None

    def __init__(
        self,
        vocabulary_size: int,
        block_size: int,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        positions: Literal["learned", "rotary"] = "learned",
        bias: bool = False,
        dropout: float = 0.0,
        tied: bool = True,
        qk_norm: bool = False,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        _check(vocabulary_size, block_size, dim, depth, heads, positions)
        self.block_size: int = block_size
        self.heads = heads
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.positions = nn.Parameter(torch.empty(block_size, dim)) if positions == "learned" else None
        angles = _angles(block_size, dim // heads) if positions == "rotary" else None
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(CausalBlock(dim, heads, bias, dropout, qk_norm, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, bias=bias)
        self.head = None if tied else nn.Linear(dim, vocabulary_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as GPT-2: normal with 0.02, what is added to the residual stream smaller."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(self.blocks)))
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def forward(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Logits ``(B, T, V)``; with a state, keys and values ``(B, h, S + T, D)`` of each block in turn.

        Raises:
            UserError: More tokens than it can look back on.
        """
        T = token.shape[1]
        S = 0 if state is None else state[0].shape[2]
        if self.block_size < S + T:
            raise UserError(
                f"GPT: {S + T} tokens, but block_size is {self.block_size}; give it fewer, or a larger one."
            )
        x = self.embedding(token)  # (B, T, C)
        if self.positions is not None:
            x = x + self.positions[S : S + T]
        x = self.dropout(x)
        rotation = None if self.angles is None else self.angles[:, S : S + T].to(x.dtype)  # (2, T, D/2)
        caches: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, rotation, None if state is None else state[2 * i : 2 * i + 2])
            caches += cache
        x = self.norm(x)
        logits: Tensor = F.linear(x, self.embedding.weight) if self.head is None else self.head(x)  # (B, T, V)
        return logits, None if state is None else tuple(caches)

    def tables(self) -> list[nn.Module]:
        """Embeddings and head."""
        return [self.embedding] if self.head is None else [self.embedding, self.head]

    def empty_state(self, batch_size: int) -> State:
        """Keys and values of no token."""
        weight = self.embedding.weight
        none = weight.new_zeros(batch_size, self.heads, 0, weight.shape[1] // self.heads)
        return (none,) * (2 * len(self.blocks))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, is_causal: bool) -> Tensor:
    """Scaled dot-product attention; on a CPU in float32, whose backward pass takes a seventh of bfloat16's there.

    The values tell the precision that was asked for: rotation has made queries and keys float32.
    """
    if v.device.type != "cpu" or v.dtype not in (torch.bfloat16, torch.float16):
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
    with torch.autocast("cpu", enabled=False):
        wide = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, dropout, is_causal)
    return wide.to(v.dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of queries or keys by the angle of its position.

    Args:
        x: ``(B, h, T, D)``.
        rotation: Cosines and sines, ``(2, T, D/2)``.
    """
    cosine, sine = rotation.unbind(0)
    a, b = x.chunk(2, dim=-1)  # (B, h, T, D/2)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


def _angles(length: int, width: int) -> Tensor:
    """Cosines and sines ``(2, T, D/2)``, eq. 15 of the paper."""
    frequency = 10_000.0 ** (-torch.arange(0, width, 2).float() / width)  # (D/2,)
    angle = torch.arange(length).float()[:, None] * frequency  # (T, D/2)
    return torch.stack([angle.cos(), angle.sin()])


def _check(vocabulary_size: int, block_size: int, dim: int, depth: int, heads: int, positions: str) -> None:
    if min(vocabulary_size, block_size, dim, depth, heads) < 1:
        raise UserError(
            f"GPT: need sizes of at least 1, got vocabulary_size {vocabulary_size}, block_size {block_size}, "
            f"dim {dim}, depth {depth}, heads {heads}."
        )
    if dim % heads:
        raise UserError(f"heads: {heads} does not divide dim, which is {dim}; such as dim={64 * heads}.")
    if positions == "rotary" and dim // heads % 2:
        raise UserError(f"positions: rotary turns pairs, so dim / heads must be even, got {dim} / {heads}.")
