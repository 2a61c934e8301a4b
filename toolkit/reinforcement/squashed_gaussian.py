"""The normal distribution squeezed into ``[-1, 1]`` by a tanh. Shape legend: B states, A action dimensions."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
LOG_TWO = math.log(2)


class SquashedSample(NamedTuple):
    """Actions drawn from a policy."""

    action: Tensor
    """``(B, A)``, in ``[-1, 1]``."""
    log_probability: Tensor
    """``(B,)``, log density of the action."""


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> SquashedSample:
    r"""Actions :math:`a = \tanh u`, :math:`u = \mu + \sigma \epsilon`, and their log density.

    .. math::
        \log \pi(a | s) = \sum_i \left[ -\tfrac{1}{2} \epsilon_i^2 - \log \sigma_i - \tfrac{1}{2} \log 2\pi
        - \log (1 - \tanh^2 u_i) \right]

    Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, arXiv:1812.05905, appendix C. The slope's
    logarithm is :math:`2 (\log 2 - u - \mathrm{softplus}(-2u))`: exact also where :math:`1 - \tanh^2 u` rounds to 0.

    Args:
        mean: :math:`\mu`, ``(B, A)``.
        log_std: :math:`\log \sigma`, ``(B, A)``.
        noise: :math:`\epsilon`, ``(B, A)``, standard normal.

    >>> import torch
    >>> action, log_probability = squashed_gaussian(*torch.zeros(3, 1, 2))
    >>> round(log_probability.item(), 4) == round(2 * -HALF_LOG_TWO_PI, 4)  # at the centre the slope is 1
    True
    """
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - HALF_LOG_TWO_PI
    log_slope = 2 * (LOG_TWO - u - F.softplus(-2 * u))
    return SquashedSample(u.tanh(), (log_normal - log_slope).sum(dim=-1))
