"""The losses of proximal policy optimisation. Schulman et al., 2017, arXiv:1707.06347. Shape legend: B samples."""

import torch
import torch.nn.functional as F
from torch import Tensor


def clipped_surrogate_loss(log_ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    r"""Eq. 7, as a loss: :math:`-\mathbb{E}[\min(r A, \mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon) A)]`.

    An action that turned out well is made more probable up to the factor :math:`1 + \epsilon`, and no reason is left to
    go on; likewise for a bad one. A change in the wrong direction is never clipped.

    Args:
        log_ratio: ``(B,)``, :math:`\log r`, logarithm of the action's probability now minus when it was taken.
        advantage: ``(B,)``, A.
        clip_range: :math:`\epsilon`.

    >>> ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> clipped_surrogate_loss(ratio.log(), advantage, 0.25)  # -(1.25 - 1.5 + 0.5 - 0.75) / 4
    tensor(0.1250)
    """
    ratio, cost = log_ratio.exp(), -advantage
    return torch.maximum(ratio * cost, ratio.clamp(1 - clip_range, 1 + clip_range) * cost).mean()


def clipped_value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip_range: float | None) -> Tensor:
    """Squared error of the value function, the larger of that and of a prediction held near the old one.

    It is in the original code and not in the paper.

    Args:
        value: ``(B,)``, predicted now.
        old_value: ``(B,)``, predicted when the experience was made.
        target: ``(B,)``.
        clip_range: How far the prediction may move from the old one, in units of the value; not held if None.

    >>> value, old, target = torch.tensor([3.0, 3.0]), torch.tensor([1.0, 1.0]), torch.tensor([4.0, 0.0])
    >>> clipped_value_loss(value, old, target, 0.5)  # (max(1, 2.5 ** 2) + max(9, 1.5 ** 2)) / 2
    tensor(7.6250)
    """
    if clip_range is None:
        return F.mse_loss(value, target)
    held = old_value + (value - old_value).clamp(-clip_range, clip_range)
    return torch.maximum((value - target).square(), (held - target).square()).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    r"""Unbiased and never negative estimate of :math:`\mathrm{KL}(\pi_{old} \| \pi)`: the mean of ``(r - 1) - log r``.

    Schulman, "Approximating KL Divergence", 2020, k3.

    Args:
        log_ratio: ``(B,)``, see `clipped_surrogate_loss`.
    """
    return (log_ratio.expm1() - log_ratio).mean()
