"""Normalises by the mean and the variance of all that it has seen. Shape legend: B samples, S a sample's shape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningNormalizer(nn.Module):
    """Subtracts the mean of all samples so far and divides by their standard deviation; the result is clipped.

    The statistics are buffers, so they travel in the checkpoint. They are those of all samples at once, however these
    came in pieces and from ranks (Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979). Until the first `update` they are those of a standard normal.

    Args:
        shape: S; ``()`` for numbers.
        clip: Largest magnitude of what is returned.
        epsilon: Added to the variance.

    >>> normalize = RunningNormalizer((1,))
    >>> normalize.update(torch.tensor([[1.0], [3.0]]))
    >>> normalize(torch.tensor([[4.0]]))
    tensor([[2.]])
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: Sequence[int], clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.clip, self.epsilon = clip, epsilon
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("variance", torch.ones(tuple(shape)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, sample: Tensor) -> Tensor:
        """``(B, *S)`` to the same shape."""
        return self.scale(sample - self.mean)

    def scale(self, sample: Tensor) -> Tensor:
        """Divide only: what is to keep its sign, such as rewards."""
        return (sample * (self.variance + self.epsilon).rsqrt()).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, sample: Tensor) -> None:
        """Take in samples ``(B, *S)`` of this rank, and those of all others; each rank calls it."""
        sample = sample.to(self.mean.dtype)
        count = _sum_over_ranks(torch.tensor(len(sample), device=sample.device))
        if not count:
            return
        mean = _sum_over_ranks(sample.sum(dim=0)) / count
        variance = _sum_over_ranks((sample - mean).square().sum(dim=0)) / count
        # Two sets join to one: theirs has the share s of all samples.
        self.count += count
        share = (count / self.count).to(mean.dtype)
        shift = mean - self.mean
        self.mean += share * shift
        self.variance += share * (variance - self.variance) + share * (1 - share) * shift.square()


def _sum_over_ranks(value: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
    return value
