"""How much better an action was than expected. Shape legend: T time steps, N environments."""

from torch import Tensor


def generalized_advantage(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    r"""Generalised advantage estimation.

    Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation", ICLR 2016, eq. 16:

    .. math::
        \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t), \qquad \hat A_t = \delta_t + \gamma \lambda \hat A_{t+1}.

    A termination is worth nothing afterwards, a truncation is worth what the value function says of the last
    observation; at both the sum ends, for the next time step is another episode's.

    The recursion is linear, so that two spans of steps join to a longer one: :math:`\log_2 T` operations on whole
    tensors in place of T on small ones (Hillis, Steele, "Data Parallel Algorithms", 1986). It is the same sum in
    another order.

    Args:
        reward: ``(T, N)``.
        value: ``(T, N)``, :math:`V(s_t)`.
        next_value: ``(T, N)``, of what followed; where an episode was cut, of its last observation.
        terminated: ``(T, N)``, bool.
        truncated: ``(T, N)``, bool.
        gamma: Discount.
        gae_lambda: 0 trusts the value function after one step, 1 the rewards alone.

    Returns:
        ``(T, N)``. With ``value`` added it is the TD(:math:`\lambda`) estimate of the return.

    >>> import torch
    >>> no, zero = torch.zeros(3, 1, dtype=torch.bool), torch.zeros(3, 1)
    >>> generalized_advantage(torch.ones(3, 1), zero, zero, no, no, gamma=0.5, gae_lambda=1.0).flatten()
    tensor([1.7500, 1.5000, 1.0000])
    """
    # A span that begins at t and has 2^i steps: its sum of discounted deltas, and the factor of what comes behind it.
    total = (reward - value).addcmul_(next_value, (~terminated).to(value.dtype), value=gamma)  # delta
    factor = (~(terminated | truncated)).to(value.dtype).mul_(gamma * gae_lambda)
    span = 1
    while span < len(total):
        total[:-span] += factor[:-span] * total[span:]
        factor[:-span] *= factor[span:].clone()
        span *= 2
    return total
