"""A text as its words, their pieces and their pairs. Shape legend: B batch, T tokens, D width, K classes."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.subwords import Subwords, bucket, pairs
from toolkit.language.networks.text_network import TextNetwork


class SubwordBag(TextNetwork):
    """Embeddings of words, of pairs of neighbours, and of n-grams within words, summed, and a linear layer.

    Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017, on features that are hard to beat with
    few short texts: words and pairs (Wang and Manning, "Baselines and Bigrams", ACL 2012), and subwords, by which a
    word counts that no training text had (Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL
    2017). Features share embeddings by their hash, and each counts once a text.

    The sum over words and pairs and the sum over n-grams are each divided by the root of how many there are, as vectors
    of TF-IDF have length 1: fastText's one mean would leave words to the n-grams, which are many more. Embeddings begin
    at 0: one that was never trained adds nothing.

    Args:
        num_classes: K.
        vocabulary: The trained tokenizer as plain values; a `CharTokenizer`'s for n-grams of characters.
        dim: D.
        dropout: Probability on the sum.
        shortest: Tokens of the shortest n-grams, the mark at each end of a word included.
        longest: Of the longest ones.
        buckets: How many embeddings each of the two kinds of features shares.
        word_scale: Factor of the words and pairs beside the n-grams.
        feature_dropout: Probability with which a feature is left out of a training text; of rare ones more is learned
            then (Wager et al., "Dropout Training as Adaptive Regularization", NeurIPS 2013).

    Raises:
        UserError: A number is out of its range.

    >>> from toolkit.language.char_tokenizer import CharTokenizer
    >>> net = SubwordBag(num_classes=3, vocabulary=CharTokenizer("abc").vocabulary())
    >>> net(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary: Mapping[str, Any],
        dim: int = 10,
        dropout: float = 0.0,
        shortest: int = 2,
        longest: int = 5,
        buckets: int = 2**17,
        word_scale: float = 1.0,
        feature_dropout: float = 0.3,
    ) -> None:
        super().__init__(num_classes, dim, dropout)
        if buckets < 1 or word_scale <= 0 or not 0 <= feature_dropout < 1:
            raise UserError(
                "SubwordBag: need buckets of at least 1, word_scale > 0 and 0 <= feature_dropout < 1, got "
                f"{buckets}, {word_scale} and {feature_dropout}."
            )
        self.buckets, self.word_scale, self.feature_dropout = buckets, word_scale, feature_dropout
        self.subwords = Subwords(vocabulary, shortest, longest)
        self.words = nn.Embedding(buckets, dim)
        self.ngrams = nn.Embedding(buckets, dim)
        for table in (self.words, self.ngrams):
            nn.init.zeros_(table.weight)

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, D)``."""
        words = self.subwords(token, mask)
        code, row = pairs(words)
        codes, rows = torch.cat([words.code, code]), torch.cat([words.row, row])
        by_words = self._sum(self.words.weight, codes, rows, len(token))
        by_ngrams = self._sum(self.ngrams.weight, words.ngram, words.row.repeat_interleave(words.length), len(token))
        return self.word_scale * by_words + by_ngrams

    def _sum(self, table: Tensor, code: Tensor, row: Tensor, texts: int) -> Tensor:
        feature: Tensor = torch.unique(row * self.buckets + bucket(code, self.buckets))  # ascending: text by text
        count = (feature // self.buckets).bincount(minlength=texts)  # (B,)
        weight = count.to(table.dtype).rsqrt().repeat_interleave(count)
        if self.training and self.feature_dropout:
            weight = F.dropout(weight, self.feature_dropout)
        first = count.cumsum(0) - count
        return F.embedding_bag(feature % self.buckets, table, first, mode="sum", per_sample_weights=weight)
