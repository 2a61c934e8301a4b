"""What every network is that classifies texts. Shape legend: B batch, T tokens, D width of the features, K classes."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from toolkit.errors import UserError


class TextNetwork(nn.Module, ABC):
    """From tokens to features of the text, and by a linear layer named ``head`` to logits.

    Args:
        num_classes: K.
        features: D.
        dropout: Probability on the features.

    Raises:
        UserError: A number is out of its range.
    """

    max_length: int | None = None
    """How many tokens it can read at most; None: any number."""

    def __init__(self, num_classes: int, features: int, dropout: float) -> None:
        super().__init__()
        if min(num_classes, features) < 1 or not 0 <= dropout < 1:
            raise UserError(
                f"{type(self).__name__}: need sizes of at least 1 and 0 <= dropout < 1, got num_classes {num_classes}, "
                f"width {features}, dropout {dropout}."
            )
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear = nn.Linear(features, num_classes)

    @abstractmethod
    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """The head's input.

        Args:
            token: ``(B, T)``, int64.
            mask: ``(B, T)``, bool, where a token stands: in each row the first ones. What stands elsewhere, and how
                much of it, changes nothing.

        Returns:
            ``(B, D)``.
        """

    def forward(self, token: Tensor, mask: Tensor) -> Tensor:
        """Logits ``(B, K)``.

        Raises:
            UserError: More tokens than it can read.
        """
        if self.max_length is not None and token.shape[1] > self.max_length:
            raise UserError(
                f"{type(self).__name__}: {token.shape[1]} tokens, but it reads {self.max_length} at most; write "
                f"data.init_args.max_length: {self.max_length}."
            )
        logits: Tensor = self.head(self.dropout(self.forward_features(token, mask)))
        return logits
