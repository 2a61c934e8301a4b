"""A text read from both ends. Shape legend: B batch, T tokens, E width of an embedding, H width of the state."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.pooling import Kind, Pooling


class BidirectionalLSTM(TextNetwork):
    """Embeddings, one LSTM from each end, pooled, and a linear layer.

    Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", IEEE Transactions on Signal Processing, 1997; the
    maximum over the tokens as in Conneau et al., "Supervised Learning of Universal Sentence Representations from
    Natural Language Inference Data", EMNLP 2017.

    Args:
        num_classes: K.
        vocabulary_size: V.
        hidden: H, of each direction.
        layers: How many, each over the one before.
        embedding: E; H if None.
        dropout: Probability on embeddings, between layers, and on what is pooled.
        pooling: See `toolkit.language.pooling.Pooling`.

    >>> import torch
    >>> net = BidirectionalLSTM(num_classes=3, vocabulary_size=65, hidden=16)
    >>> net(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary_size: int,
        hidden: int = 128,
        layers: int = 1,
        embedding: int | None = None,
        dropout: float = 0.0,
        pooling: Kind = "max",
    ) -> None:
        super().__init__(num_classes, 2 * hidden, dropout)
        E = hidden if embedding is None else embedding
        self.embedding = nn.Embedding(vocabulary_size, E)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(E, hidden, layers, batch_first=True, dropout=between, bidirectional=True)
        self.pooling = Pooling(2 * hidden, pooling)
        nn.init.normal_(self.embedding.weight, std=E**-0.5)

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, 2 H)``; packed, so that the way back begins at each text's own end."""
        x = self.dropout(self.embedding(token.where(mask, 0)))  # (B, T, E)
        packed = pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=token.shape[1])
        pooled: Tensor = self.pooling(y, mask)  # (B, 2 H)
        return pooled
