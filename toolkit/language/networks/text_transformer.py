"""The encoder-only transformer. Shape legend: B batch, T tokens, C width of a token, K classes."""

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.pooling import Kind, Pooling
from toolkit.nn.backbone import Staged

MLP_RATIO = 4
"""Hidden width of a block's MLP, in multiples of C."""


class TextTransformer(TextNetwork, Staged):
    """Pre-norm transformer whose tokens see each other, pooled, and a linear layer.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, the encoder; learned positions as in Devlin et al.,
    "BERT", NAACL 2019. Blocks are torch's own.

    Args:
        num_classes: K.
        vocabulary_size: V.
        max_length: Tokens that it can read.
        dim: C.
        depth: Number of blocks.
        heads: Divides C.
        dropout: Probability on embeddings, attention weights, after attention and MLP, and on what is pooled.
        pooling: See `toolkit.language.pooling.Pooling`.

    Raises:
        UserError: Heads do not divide C, or a size below 1.

    >>> net = TextTransformer(num_classes=3, vocabulary_size=65, max_length=8, dim=16, heads=2)
    >>> net(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary_size: int,
        max_length: int,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        pooling: Kind = "mean",
    ) -> None:
        if min(vocabulary_size, max_length, dim, depth, heads) < 1 or dim % heads:
            raise UserError(
                f"TextTransformer: need sizes of at least 1, and heads that divide dim, got vocabulary_size "
                f"{vocabulary_size}, max_length {max_length}, dim {dim}, depth {depth}, heads {heads}."
            )
        super().__init__(num_classes, dim, dropout)
        self.max_length: int = max_length
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.positions = nn.Embedding(max_length, dim)
        block = nn.TransformerEncoderLayer(
            dim, heads, MLP_RATIO * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.pooling = Pooling(dim, pooling)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, normal with 0.02 as BERT's; torch's blocks would begin as copies of one."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_weight, std=0.02)

    def stages(self) -> list[list[nn.Module]]:
        """Embeddings, each block, the head."""
        assert self.blocks.norm is not None
        blocks: list[list[nn.Module]] = [[block] for block in self.blocks.layers]
        return [[self.embedding, self.positions], *blocks, [self.blocks.norm, self.pooling, self.head]]

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, C)``."""
        place = torch.arange(token.shape[1], device=token.device)
        x = self.dropout(self.embedding(token.where(mask, 0)) + self.positions(place))  # (B, T, C)
        x = self.blocks(x, src_key_padding_mask=~mask)
        pooled: Tensor = self.pooling(x, mask)
        return pooled
