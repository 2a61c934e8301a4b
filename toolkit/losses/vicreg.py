"""Variance, invariance and covariance of two views' projections. N: samples, D: width of a projection.

Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022.
The paper's text and its published code differ by constant factors; these are the code's, for which the paper's
coefficients 25, 25 and 1 were found: distances are means over the D components, and the variance term is the mean, not
the sum, of the two views'.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.losses.nt_xent import check_views


class VICRegTerms(NamedTuple):
    """The unweighted terms, scalars."""

    invariance: Tensor
    """Mean squared distance of a sample's views (eq. 5)."""
    variance: Tensor
    """By how much the components' standard deviations fall short of 1 (eq. 1)."""
    covariance: Tensor
    """Sum of the squared covariances between components, over D (eqs. 3 and 4), of both views."""


def vicreg_terms(first: Tensor, second: Tensor) -> VICRegTerms:
    """All three terms; the last two are statistics of the whole batch.

    Args:
        first: ``(N, D)``, projections of one view of each sample.
        second: ``(N, D)``, those of the other.

    Raises:
        UserError: Fewer than two samples, of which there is no variance; different shapes.

    >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> [round(term.item(), 3) for term in vicreg_terms(z, z)]
    [0.0, 0.495, 0.0]
    """
    check_views("vicreg_terms", first, second)
    kind = torch.promote_types(first.dtype, torch.float32)
    first, second = first.to(kind), second.to(kind)
    with torch.autocast(first.device.type, enabled=False):
        variance = (_variance_term(first) + _variance_term(second)) / 2
        covariance = _covariance_term(first) + _covariance_term(second)
    return VICRegTerms(F.mse_loss(first, second), variance, covariance)


def _variance_term(z: Tensor) -> Tensor:
    deviation = (z.var(dim=0) + 1e-4).sqrt()  # (D,)
    return F.relu(1 - deviation).mean()


def _covariance_term(z: Tensor) -> Tensor:
    centered = z - z.mean(dim=0)
    covariance = centered.T @ centered / (len(z) - 1)  # (D, D)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
