"""What a classifier says of generated images. Shape legend: N samples, C channels, H height, W width, K classes."""

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from toolkit.metrics.frechet import FrechetDistance


class FeatureClassifier(Protocol):
    """A classifier that shows what its last layer sees."""

    @abstractmethod
    def read(self, image: Tensor) -> "Reading":
        """Features and logits of images ``(N, C, H, W)`` in ``[0, 1]``."""


class Reading(NamedTuple):
    """What a classifier makes of images."""

    features: Tensor
    """``(N, D)``."""
    logits: Tensor
    """``(N, K)``."""


class FrechetClassifierDistance(FrechetDistance):
    """`FrechetDistance` of the features of one classifier, trained on the data in question.

    It is no FID and compares with no number of another classifier: name the checkpoint beside it, and the *floor*, the
    distance of two halves of real images.

    Args:
        classifier: Whose features.
        dim: How many it has.
    """

    def __init__(self, classifier: FeatureClassifier, dim: int, **options: Any) -> None:
        super().__init__(dim, **options)
        self.classifier = classifier

    @torch.no_grad()
    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add images ``(N, C, H, W)`` in ``[0, 1]`` of each kind."""
        super().update(self.classifier.read(real).features, self.classifier.read(fake).features)


def share_as_asked(logits: Tensor, label: Tensor) -> float:
    """Share of images that the classifier takes for the class that was asked for.

    Args:
        logits: ``(N, K)``.
        label: ``(N,)``.

    >>> share_as_asked(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    """
    return float((logits.argmax(dim=1) == label).float().mean())
