"""Distance of two clouds of features. Shape legend: N samples, D feature dimensions."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from toolkit.errors import UserError
from toolkit.metrics.running_means import accumulator_dtype
from toolkit.precision import float64


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Squared Fréchet distance of two normal distributions.

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982: ``|m_a - m_b|^2 +
    tr(C_a + C_b - 2 (C_a C_b)^(1/2))``; the last trace is the sum of the roots of the eigenvalues of ``C_a C_b``.

    Args:
        mean_a: ``(D,)``.
        cov_a: ``(D, D)``.
        mean_b: ``(D,)``.
        cov_b: ``(D, D)``.

    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> frechet_distance(torch.zeros(2), eye, torch.tensor([3.0, 4.0]), 4 * eye).item()  # 25 + 2 (1 + 4 - 2 * 2)
    27.0
    """
    eigenvalues, vectors = torch.linalg.eigh(cov_a)
    root = vectors * eigenvalues.clamp(min=0).sqrt() @ vectors.T  # C_a^(1/2): the product below is symmetric
    shared = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance: Tensor = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * shared
    return distance.clamp(min=0)


class FrechetDistance(Metric):
    """`frechet_distance` of the features of real and generated samples, exact over ranks.

    It is infinite if a feature is not finite: that of a diverged generator.

    What it means depends on the features. Heusel et al., NeurIPS 2017, made it known with those of an Inception
    network; with others it must not be called FID.

    Args:
        dim: D.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    real_sum: Tensor

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(**options)
        self.dim = dim
        dtype = accumulator_dtype()
        for side in ("real", "fake"):
            self.add_state(f"{side}_count", torch.zeros((), dtype=dtype), "sum")
            self.add_state(f"{side}_sum", torch.zeros(dim, dtype=dtype), "sum")
            self.add_state(f"{side}_outer", torch.zeros(dim, dim, dtype=dtype), "sum")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add features ``(N, D)`` of each kind; the numbers may differ."""
        for side, features in (("real", real), ("fake", fake)):
            if features.ndim != 2 or features.shape[1] != self.dim:
                raise UserError(f"FrechetDistance: need features (N, {self.dim}), got {tuple(features.shape)}.")
            x = features.detach().to(accumulator_dtype())
            setattr(self, f"{side}_count", getattr(self, f"{side}_count") + len(x))
            setattr(self, f"{side}_sum", getattr(self, f"{side}_sum") + x.sum(dim=0))
            setattr(self, f"{side}_outer", getattr(self, f"{side}_outer") + x.T @ x)

    def compute(self) -> Tensor:
        """The squared distance, float32."""
        device = self.real_sum.device
        moments = [*self._moments("real"), *self._moments("fake")]
        if not all(moment.isfinite().all() for moment in moments):
            return torch.full((), torch.inf, dtype=torch.float32, device=device)
        return frechet_distance(*moments).float().to(device)

    def _moments(self, side: str) -> tuple[Tensor, Tensor]:
        count, total, outer = (getattr(self, f"{side}_{name}") for name in ("count", "sum", "outer"))
        count, total, outer = float64(count), float64(total), float64(outer)
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1).clamp(min=1)
