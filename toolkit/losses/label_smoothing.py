"""Cross entropy against a smoothed label, and against the label itself, in one pass over the logits.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.
Shape legend: N tokens or samples, V classes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 128
"""Rows that are worked on at a time: with some thousands of classes they fit a CPU's cache."""


class _SmoothedNats(torch.autograd.Function):
    """The gradient is known as soon as the softmax is, so it is made at once and kept in the logits' type."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        N, V = logits.shape
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        wide = torch.promote_types(logits.dtype, torch.float32)
        smoothed, nats = logits.new_empty(2, N, dtype=wide)
        rows = ROWS if logits.device.type == "cpu" else max(1, N)
        for first in range(0, N, rows):
            part = slice(first, first + rows)
            log_probability = logits[part].to(wide).log_softmax(dim=1)  # (rows, V)
            own = label[part, None]
            nats[part] = -log_probability.gather(1, own)[:, 0]
            smoothed[part] = (1 - smoothing) * nats[part] - smoothing * log_probability.mean(dim=1)
            if gradient is not None:
                share = log_probability.exp_().sub_(smoothing / V)
                share.scatter_add_(1, own, share.new_full(own.shape, smoothing - 1))
                gradient[part] = share
        ctx.mark_non_differentiable(nats)
        ctx.gradient = gradient
        return smoothed, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient * grad[:, None].to(ctx.gradient.dtype), None, None


def label_smoothed_nats(logits: Tensor, label: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of each row with a target that gives ``smoothing`` of its weight to all classes alike.

    Args:
        logits: ``(N, V)``; half precision is computed with in float32.
        label: ``(N,)``, int64.
        smoothing: In ``[0, 1)``; 0 gives the same twice.

    Returns:
        ``(N,)`` each: what is minimised, and the label's negative log probability, through which no gradient flows.

    >>> logits, label = torch.randn(3, 5), torch.tensor([0, 4, 2])
    >>> torch.allclose(label_smoothed_nats(logits, label, 0.1)[0],
    ...                torch.nn.functional.cross_entropy(logits, label, label_smoothing=0.1, reduction="none"))
    True
    """
    smoothed, nats = _SmoothedNats.apply(logits, label, smoothing)
    return smoothed, nats
