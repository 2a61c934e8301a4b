"""The distributions of a policy's actions, in few operations. Shape legend: B observations, K actions, A dimensions.

``torch.distributions`` checks, expands and caches; for a handful of environments that takes longer than the network.
The leading dimension B may be several.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Distribution(ABC):
    """Of one action for each of B observations."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Actions from torch's default generator, without gradient."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable actions."""

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """Logarithm of the probability, or of its density, ``(B,)``."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """In nats, ``(B,)``."""


class Categorical(Distribution):
    """One of K actions, int64, ``(B,)``.

    Args:
        logit: ``(B, K)``.
    """

    def __init__(self, logit: Tensor) -> None:
        self.log_probability = logit.log_softmax(dim=-1)

    def sample(self) -> Tensor:
        """The first of K exponential clocks, whose rates are the probabilities."""
        rate = self.log_probability.detach().exp()
        return (rate / torch.empty_like(rate).exponential_()).argmax(dim=-1)

    def mode(self) -> Tensor:
        """The most probable action."""
        return self.log_probability.argmax(dim=-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of actions ``(B,)``."""
        return self.log_probability.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """In nats; at most ``log K``."""
        return -(self.log_probability.exp() * self.log_probability).sum(dim=-1)


class DiagonalGaussian(Distribution):
    """A real number in each of A dimensions, independent of one another; ``(B, A)``, float32, unbounded.

    Args:
        mean: ``(B, A)``.
        log_std: ``(A,)``, the same for all observations, or ``(B, A)``.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def sample(self) -> Tensor:
        """The mean plus normal noise."""
        mean = self.mean.detach()
        return torch.addcmul(mean, torch.randn_like(mean), self.log_std.detach().exp())

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Density at actions ``(B, A)``."""
        noise = (action - self.mean) * (-self.log_std).exp()
        constant = self.log_std.sum(dim=-1) + 0.5 * math.log(2 * math.pi) * noise.shape[-1]
        return -0.5 * noise.square().sum(dim=-1) - constant

    def entropy(self) -> Tensor:
        """Differential, in nats; it may be negative."""
        entropy = self.log_std.sum(dim=-1) + 0.5 * (1 + math.log(2 * math.pi)) * self.mean.shape[-1]
        return entropy.expand(self.mean.shape[:-1])
