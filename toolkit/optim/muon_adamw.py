"""Muon for hidden matrices and AdamW for everything else, in one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from toolkit.errors import UserError


class MuonAdamW(Optimizer):
    """torch's Muon on the groups that a task marks as hidden matrices, torch's AdamW on all others.

    Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) replaces the momentum of a
    matrix by the nearest semi-orthogonal one. Its steps are scaled to the size of AdamW's (Liu et al., "Muon is
    Scalable for LLM Training", 2025), so learning rate and weight decay are shared, and the rates that suit AdamW suit
    here. Embeddings, the matrix of the logits, biases and gains move by AdamW.

    Args:
        params: Groups; those with ``hidden=True`` hold matrices of two dimensions.
        lr: Learning rate of both.
        betas: AdamW's decay rates.
        weight_decay: Decoupled, of both; groups may override it.
        momentum: Muon's.

    Raises:
        UserError: No group is marked, as of a task that does not know which of its weights are hidden.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ) -> None:
        groups = [dict(entry) for entry in params if isinstance(entry, dict)]
        hidden = [group for group in groups if group.get("hidden")]
        others = [group for group in groups if not group.get("hidden")]
        if not hidden:
            raise UserError(
                "MuonAdamW: the task marks no hidden matrices; write AdamW, or hand it groups of which one has "
                "hidden=True."
            )
        muon = Muon(hidden, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw")
        self._parts: list[Optimizer] = [muon]
        if others:
            self._parts.append(AdamW(others, lr, betas, weight_decay=weight_decay, foreach=True))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both read and write this optimizer's groups and state."""
        for part in self._parts:
            is_muon = isinstance(part, Muon)
            part.param_groups = [group for group in self.param_groups if bool(group.get("hidden")) == is_muon]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; both parts go on from it."""
        super().load_state_dict(state_dict)
        self._share()
