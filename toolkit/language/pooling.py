"""From the tokens of a text to one vector. Shape legend: B batch, T tokens, D width."""

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["mean", "first", "max", "attention"]


class Pooling(nn.Module):
    """One vector a text; what stands where there is no token does not matter.

    Args:
        dim: D.
        kind: "mean" of the tokens; the "first" one, which in BERT-like models stands for the text; the "max" of each
            component; or "attention": the mean with learned weights, which begin equal.

    >>> Pooling(2, "mean")(torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.tensor([[True, False]]))
    tensor([[1., 3.]])
    """

    def __init__(self, dim: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(dim, 1, bias=False) if kind == "attention" else None
        if self.score is not None:
            nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, D)``, and ``(B, T)`` that is true where a token stands, to ``(B, D)``."""
        if self.kind == "first":
            return x[:, 0]
        there = mask[..., None]  # (B, T, 1)
        if self.kind == "max":
            return x.masked_fill(~there, -torch.inf).amax(dim=1)
        x = x.masked_fill(~there, 0.0)  # where even an infinity would not count
        if self.score is None:
            return x.sum(dim=1) / there.sum(dim=1).to(x.dtype)
        weight = self.score(x).float().masked_fill(~there, -torch.inf).softmax(dim=1).to(x.dtype)  # (B, T, 1)
        pooled: Tensor = (weight * x).sum(dim=1)
        return pooled
