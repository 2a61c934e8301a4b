"""Precision and recall of generated samples. Shape legend: N samples, D feature dimensions."""

from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import UserError

ROWS = 1000
"""Rows of the matrix of distances that are computed at a time."""


class PrecisionRecall(NamedTuple):
    """Both in ``[0, 1]``."""

    precision: float
    """Share of generated samples that lie where real ones do: quality."""
    recall: float
    """Share of real samples that lie where generated ones do: variety."""


def manifold_precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Whether each sample lies within a neighbourhood of a sample of the other kind.

    Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019. The
    neighbourhood of a sample reaches to its k-th nearest neighbour of its own kind.

    Args:
        real: Features ``(N, D)``.
        fake: Features ``(M, D)``.
        k: Neighbours, less than N and M.

    Raises:
        UserError: Too few samples.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> manifold_precision_recall(x, torch.tensor([[0.5], [9.0], [10.0]]), k=1)
    PrecisionRecall(precision=0.3333333432674408, recall=1.0)
    """
    if min(len(real), len(fake)) <= k:
        raise UserError(f"precision and recall: need more than k = {k} samples, got {len(real)} and {len(fake)}.")
    return PrecisionRecall(_share_within(fake, real, k), _share_within(real, fake, k))


def _share_within(sample: Tensor, manifold: Tensor, k: int) -> float:
    rows = range(0, len(manifold), ROWS)
    radius = torch.cat([_distances(manifold[i : i + ROWS], manifold).kthvalue(k + 1).values for i in rows])
    # k + 1: the nearest one is the sample itself
    inside = [(_distances(sample[i : i + ROWS], manifold) <= radius).any(dim=1) for i in range(0, len(sample), ROWS)]
    return float(torch.cat(inside).float().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # exact: a sample is at 0 from itself
