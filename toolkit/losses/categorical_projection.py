"""Distributions of returns on fixed atoms. Shape legend: B transitions, A atoms."""

import torch
from torch import Tensor


def categorical_projection(probability: Tensor, reward: Tensor, discount: Tensor, atoms: Tensor) -> Tensor:
    """The distribution of ``r + discount * Z``, brought back to the atoms of ``Z``.

    Bellemare, Dabney, Munos, "A Distributional Perspective on Reinforcement Learning", ICML 2017, algorithm 1: what is
    beyond the outer atoms goes to them, and what falls between two atoms is divided between them by distance. Unlike
    there, the mass that falls exactly on an atom is not lost.

    Args:
        probability: ``(B, A)``, of Z; rows sum to 1.
        reward: ``(B,)``.
        discount: ``(B,)``, 0 where nothing follows.
        atoms: ``(A,)``, the values that Z takes, evenly spaced and rising; at least two.

    Returns:
        ``(B, A)``; rows sum to what they did.

    >>> atoms = torch.tensor([0.0, 1.0, 2.0])
    >>> categorical_projection(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.25]), torch.tensor([0.5]), atoms)
    tensor([[0.0000, 0.7500, 0.2500]])
    """
    last = len(atoms) - 1
    shifted = reward[:, None] + discount[:, None] * atoms  # (B, A)
    place = ((shifted - atoms[0]) * (last / (atoms[-1] - atoms[0]))).clamp(0, last)  # in units of atoms
    below = place.floor()
    mass_above = probability * (place - below)
    left = below.long()
    right = (left + 1).clamp(max=last)  # where it would be beyond, its mass is 0
    projected = torch.zeros_like(mass_above)
    return projected.scatter_add_(1, left, probability - mass_above).scatter_add_(1, right, mass_above)


def categorical_divergence(target: Tensor, log_probability: Tensor) -> Tensor:
    """``KL(target || predicted)`` of each transition.

    Its gradient is that of the cross entropy of Bellemare et al., and its value is what Hessel et al., "Rainbow", AAAI
    2018, prioritise transitions by.

    Args:
        target: ``(B, A)``, probabilities; no gradient flows into them.
        log_probability: ``(B, A)``, predicted.

    Returns:
        ``(B,)``, at least 0 up to rounding.

    >>> categorical_divergence(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]]).log())
    tensor([0.2877])
    """
    target = target.detach()
    return (torch.xlogy(target, target) - target * log_probability).sum(dim=1)
