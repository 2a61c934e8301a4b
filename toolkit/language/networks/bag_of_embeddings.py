"""A text as the mean of its tokens. Shape legend: B batch, T tokens, D width, K classes."""

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.pooling import Kind, Pooling

MULTIPLIER = 116_049_371
"""Of fastText's hash of word n-grams."""


class BagOfEmbeddings(TextNetwork):
    """Embeddings of the tokens, pooled, and a linear layer: their order counts within n-grams alone.

    Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017 (fastText): each sequence of two to
    ``ngrams`` tokens has an embedding, too, which it shares with those of the same hash.

    Args:
        num_classes: K.
        vocabulary_size: V.
        dim: D.
        dropout: Probability on the pooled embedding.
        pooling: See `toolkit.language.pooling.Pooling`.
        ngrams: Length of the longest sequences that count; 1: single tokens alone.
        buckets: How many embeddings the n-grams share.
        token_dropout: Probability with which a token or n-gram is left out of a training text (Iyyer et al., "Deep
            Unordered Composition Rivals Syntactic Methods for Text Classification", ACL 2015).

    Raises:
        UserError: A size below 1, or a dropout outside its range.

    >>> net = BagOfEmbeddings(num_classes=3, vocabulary_size=65)
    >>> net(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary_size: int,
        dim: int = 128,
        dropout: float = 0.0,
        pooling: Kind = "mean",
        ngrams: int = 1,
        buckets: int = 2**15,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes, dim, dropout)
        if min(vocabulary_size, ngrams, buckets) < 1 or not 0 <= token_dropout < 1:
            raise UserError(
                f"BagOfEmbeddings: need sizes of at least 1 and 0 <= token_dropout < 1, got vocabulary_size "
                f"{vocabulary_size}, ngrams {ngrams}, buckets {buckets}, token_dropout {token_dropout}."
            )
        self.token_dropout = token_dropout
        self.ngrams, self.buckets = ngrams, buckets
        self.embedding = nn.Embedding(vocabulary_size + (buckets if ngrams > 1 else 0), dim)
        self.vocabulary_size = vocabulary_size
        self.pooling = Pooling(dim, pooling)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, D)``."""
        token = token.where(mask, 0)
        numbers, there = [token], [mask]
        code = token
        for n in range(1, self.ngrams):
            code = code[:, :-1] * MULTIPLIER + token[:, n:]  # (B, T - n); wraps, which a hash may
            numbers.append(self.vocabulary_size + code % self.buckets)
            there.append(mask[:, n:])  # a sequence is there if its last token is
        found = torch.cat(there, dim=1)
        if self.training and self.token_dropout:
            kept = found & (torch.rand(found.shape, device=found.device) >= self.token_dropout)
            found = kept.where(kept.any(dim=1, keepdim=True), found)  # a text keeps something
        pooled: Tensor = self.pooling(self.embedding(torch.cat(numbers, dim=1)), found)
        return pooled
