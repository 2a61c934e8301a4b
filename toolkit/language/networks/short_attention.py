"""Attention between short texts. Shape legend: B batch, h heads, T queries, S keys, D width of a head."""

import math

import torch
from torch import Tensor

from toolkit.language.networks.gpt import attend

LONGEST = 128
"""Up to here the weights of all pairs are no burden to memory."""


def attend_short(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Scaled dot-product attention ``(B, h, T, D)``; on a CPU by three operations, in half the time of torch's one.

    Args:
        q: ``(B, h, T, D)``.
        k: ``(B, h, S, D)``.
        v: Likewise.
        mask: Which keys are looked at, bool, broadcast to ``(B, h, T, S)``; None: all.
        is_causal: Each query looks at the keys up to its own place; without a mask only.
    """
    if q.device.type != "cpu" or max(q.shape[2], k.shape[2]) > LONGEST:
        return attend(q, k, v, mask, 0.0, is_causal)
    return attention_weights(q, k, mask, is_causal).to(v.dtype) @ v


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
    """How much each query looks at each key: ``(B, h, T, S)``, arguments as `attend_short`."""
    score = (q * (1 / math.sqrt(q.shape[3]))) @ k.transpose(2, 3)
    T, S = score.shape[2:]
    if is_causal and T > 1:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)
    return score.softmax(dim=3)
