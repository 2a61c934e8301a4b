"""How likely an image is given what a decoder says of each pixel.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.
Shape legend: B batch, C channels, H height, W width.
"""

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError


def bernoulli_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Log probability of each image, its pixels being independent coins.

    Args:
        logits: ``(B, ...)``, of each pixel being 1.
        target: Likewise, in ``[0, 1]``; a true likelihood for 0 and 1 only.

    Returns:
        ``(B,)``, nats.

    >>> import torch
    >>> nats = bernoulli_log_likelihood(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 1.0]])).item()
    >>> round(nats / math.log(2), 5)
    -3.0
    """
    _check_shapes(logits, target)
    return -F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(dim=1)


def gaussian_log_likelihood(mean: Tensor, target: Tensor, std: float) -> Tensor:
    """Log density of each image, its pixels being independent normal variables.

    Args:
        mean: ``(B, ...)``.
        target: Likewise.
        std: Standard deviation of every pixel.

    Returns:
        ``(B,)``, nats.
    """
    _check_shapes(mean, target)
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    return -(0.5 * ((target - mean) / std).square() + constant).flatten(1).sum(dim=1)


class Likelihood(nn.Module, ABC):
    """What a decoder's output says of an image."""

    binary: bool
    """Whether pixels are 0 or 1."""

    @abstractmethod
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Log likelihood ``(B,)`` of images ``(B, C, H, W)`` in ``[0, 1]``."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """The expected image, in ``[0, 1]``."""


class BernoulliLikelihood(Likelihood):
    """Binary pixels; the decoder gives logits."""

    binary = True

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """See `bernoulli_log_likelihood`."""
        return bernoulli_log_likelihood(output, target)

    def mean(self, output: Tensor) -> Tensor:
        """Probability of a white pixel."""
        return output.sigmoid()


class GaussianLikelihood(Likelihood):
    """Continuous pixels of one fixed deviation; the decoder gives their mean.

    Args:
        std: Standard deviation of a pixel on the scale ``[0, 1]``.

    Raises:
        UserError: ``std`` is not above 0.
    """

    binary = False

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        if std <= 0:
            raise UserError(f"GaussianLikelihood.std: need a number above 0, got {std}; 0.1 suits images in [0, 1].")
        self.std = std

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """See `gaussian_log_likelihood`."""
        return gaussian_log_likelihood(output, target, self.std)

    def mean(self, output: Tensor) -> Tensor:
        """The decoder's own mean."""
        return output.clamp(0, 1)


def _check_shapes(output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise UserError(
            f"likelihood: the decoder gives {tuple(output.shape)} for images {tuple(target.shape)}; it must give one "
            "number a pixel."
        )
