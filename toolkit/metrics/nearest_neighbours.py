"""Classification by the vote of the nearest of a bank of samples. B queries, N samples in the bank, D features."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20
TEMPERATURE = 0.07
BANK_SIZE = 5000
"""Training images that vote while a model trains."""


class NeighbourVote:
    """The k nearest samples vote, weighed by ``exp(cosine / temperature)``.

    Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, section
    3.4.

    Args:
        feature: ``(N, D)``, of any length.
        label: ``(N,)``, int64; negative ones do not vote.
        neighbours: k; all of them if there are fewer.
        temperature: Above 0.

    >>> vote = NeighbourVote(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([3, 5]))
    >>> vote(torch.tensor([[2.0, 1.0], [1.0, 7.0]])).tolist()
    [3, 5]
    """

    def __init__(
        self, feature: Tensor, label: Tensor, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE
    ) -> None:
        labelled = label >= 0
        self.feature, self.label = F.normalize(feature[labelled], dim=1), label[labelled]
        self.neighbours, self.temperature = min(neighbours, len(self.label)), temperature
        self.num_classes = int(self.label.max()) + 1

    def __call__(self, query: Tensor) -> Tensor:
        """Class numbers ``(B,)``, int64, of queries ``(B, D)``."""
        cosine = F.normalize(query, dim=1) @ self.feature.T  # (B, N)
        near = cosine.topk(self.neighbours, dim=1)
        weight = ((near.values - 1) / self.temperature).exp()  # (B, k); at most 1
        votes = torch.zeros(len(query), self.num_classes, dtype=weight.dtype, device=query.device)
        return votes.scatter_add_(1, self.label[near.indices], weight).argmax(dim=1)


def bank_of(data: Any, size: int = BANK_SIZE) -> tuple[Tensor, Tensor]:
    """Some of a DataModule's training images, evenly spread over the set: the same in every run.

    Args:
        data: With ``dataset("train")``, which has a length and ``read(index)``.
        size: How many; all if there are fewer.

    Returns:
        Images ``(N, C, H, W)``, uint8, and labels ``(N,)``.
    """
    dataset = data.dataset("train")
    step = max(len(dataset) / size, 1.0)
    index = (torch.arange(min(size, len(dataset)), dtype=torch.float64) * step).long()
    image, label = dataset.read(index)
    return image, label


def pixel_vectors(normalize: torch.nn.Module, image: Tensor) -> Tensor:
    """Images ``(B, C, H, W)``, uint8, as vectors ``(B, C * H * W)`` of standardised pixels."""
    vectors: Tensor = normalize(image.float() / 255).flatten(1)
    return vectors
