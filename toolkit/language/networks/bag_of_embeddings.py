"""A text as the mean of its tokens. Shape legend: B batch, T tokens, D width, K classes."""

from torch import Tensor, nn

from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.pooling import Kind, Pooling


class BagOfEmbeddings(TextNetwork):
    """Embeddings of the tokens, pooled, and a linear layer: the order of the tokens does not count.

    Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017 (fastText), without n-grams.

    Args:
        num_classes: K.
        vocabulary_size: V.
        dim: D.
        dropout: Probability on the pooled embedding.
        pooling: See `toolkit.language.pooling.Pooling`.

    >>> import torch
    >>> net = BagOfEmbeddings(num_classes=3, vocabulary_size=65)
    >>> net(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, num_classes: int, vocabulary_size: int, dim: int = 128, dropout: float = 0.0, pooling: Kind = "mean"
    ) -> None:
        super().__init__(num_classes, dim, dropout)
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.pooling = Pooling(dim, pooling)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, D)``."""
        pooled: Tensor = self.pooling(self.embedding(token.where(mask, 0)), mask)
        return pooled
