"""Muon for convolution filters and SGD for everything else, in one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from toolkit.errors import UserError

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration: they maximise its slope at zero, so three rounds are enough."""


def orthogonalize(matrix: Tensor, steps: int = 3) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values are pushed into about ``[0.7, 1.2]``.

    Args:
        matrix: ``(M, N)``.
        steps: Rounds of the Newton-Schulz iteration.

    Returns:
        ``(M, N)``, of the input's dtype; computed in bfloat16, whose precision is enough here.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T  # (min(M, N), min(M, N))
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


class MuonSGD(Optimizer):
    r"""Orthogonalised momentum (Muon) for filters of four dimensions; SGD with Nesterov momentum for the rest.

    Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) takes the momentum of a weight
    as a matrix (filters: output channels against all else), replaces it by the nearest semi-orthogonal one, and so
    moves all directions alike. As in Jordan's CIFAR-10 speedrun, each filter bank is scaled to a fixed norm,
    :math:`\sqrt{C_{out}}`, before the step, which takes the place of weight decay. Weights of fewer dimensions (head,
    biases, norms) move by SGD.

    Args:
        params: Parameters, or groups of them.
        lr: Muon's learning rate, in units of the weights' norm.
        momentum: Muon's momentum.
        matrix_lr: SGD's learning rate for matrices, such as the head.
        vector_lr: SGD's learning rate for vectors: biases and norms.
        sgd_momentum: SGD's momentum.
        weight_decay: Share by which SGD's weights shrink in one step at the full learning rate.

    Raises:
        UserError: A rate is negative or a momentum outside ``[0, 1)``.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.12,
        momentum: float = 0.6,
        matrix_lr: float = 1.0,
        vector_lr: float = 0.1,
        sgd_momentum: float = 0.85,
        weight_decay: float = 0.0,
    ) -> None:
        for name, rate in (("lr", lr), ("matrix_lr", matrix_lr), ("vector_lr", vector_lr)):
            if rate < 0:
                raise UserError(f"MuonSGD.{name}: need a number >= 0, got {rate}.")
        for name, share in (("momentum", momentum), ("sgd_momentum", sgd_momentum)):
            if not 0 <= share < 1:
                raise UserError(f"MuonSGD.{name}: need a number in [0, 1), got {share}.")
        weights = [p for entry in params for p in (entry["params"] if isinstance(entry, dict) else [entry])]
        rates = {"filters": lr, "matrices": matrix_lr, "vectors": vector_lr}
        groups = [
            {
                "params": [p for p in weights if _kind(p) == kind],
                "kind": kind,
                "lr": rate,
                "momentum": momentum if kind == "filters" else sgd_momentum,
                "weight_decay": 0.0 if kind == "filters" or rate == 0 else weight_decay / rate,
            }
            for kind, rate in rates.items()
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; gradients that are None leave their weight alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient = weight.grad.add(weight, alpha=group["weight_decay"])
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        velocity = state["momentum"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(velocity, alpha=group["momentum"])  # Nesterov's look ahead
        if group["kind"] == "filters":
            weight.mul_(len(weight) ** 0.5 / weight.norm().clamp(min=1e-7))
            update = orthogonalize(update.flatten(1)).view_as(weight)
        weight.add_(update, alpha=-group["lr"])


def _kind(weight: Tensor) -> str:
    return "filters" if weight.ndim >= 3 else "matrices" if weight.ndim == 2 else "vectors"
