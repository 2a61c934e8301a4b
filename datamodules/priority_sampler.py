"""Drawing what was predicted badly more often. Shape legend: M slots of a replay buffer, B transitions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.priority_tree import PriorityTree
from datamodules.transition_ring import NOTHING
from toolkit.errors import UserError


@dataclass(frozen=True)
class Priorities:
    """Transitions are drawn the more often, the larger their last error was.

    Schaul et al., "Prioritized Experience Replay", ICLR 2016, proportional variant: with the priority ``p = |error| +
    epsilon`` transition i of N is drawn with ``P(i) = p_i^alpha / sum_j p_j^alpha``, and its loss is multiplied by
    ``(N P(i))^-beta``, over the largest such weight in the minibatch.
    """

    alpha: float = 0.6
    """0: all alike; 1: in proportion to the error."""
    beta: float = 0.4
    """How far weights correct for what is drawn too often, at the beginning; it grows linearly to 1, entirely."""
    epsilon: float = 1e-6
    """Added to an error, so that a transition without any is drawn again."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or not 0 <= self.beta <= 1 or not self.epsilon > 0:
            raise UserError(
                "data.init_args.experience.prioritized: need alpha and beta in [0, 1] and epsilon > 0, got alpha "
                f"{self.alpha}, beta {self.beta} and epsilon {self.epsilon}."
            )


class PrioritySampler:
    """Keeps the priorities of M slots, and draws slots by them.

    Args:
        options: Exponents.
        kind: ``(M,)``, the buffer's own array: what lies in its slots.
    """

    def __init__(self, options: Priorities, kind: NDArray[np.uint8]) -> None:
        self.options = options
        self._kind = kind
        self.touched: list[int] = []
        """Slots that were written since the last draw or update; whoever writes one appends it."""
        self._tree = PriorityTree(len(kind))
        """Of each slot ``p^alpha``; 0 where there is no transition."""
        self._largest = 1.0
        """The largest ``p^alpha`` so far, which new transitions get, so that each is soon drawn once."""

    def draw(self, batch_size: int, progress: float) -> tuple[Tensor, Tensor]:
        """One transition from each of B equal parts of the priorities' sum, as in the paper's appendix B.2.1.

        Args:
            batch_size: B.
            progress: Share of the run that is done, by which beta grows.

        Returns:
            Slots, ``(B,)``, int64, and the weights of their losses, ``(B,)``, float32, of which the largest is 1.
        """
        self._take_new()
        beta = self.options.beta + (1 - self.options.beta) * progress
        part = np.arange(batch_size) + torch.rand(batch_size, dtype=torch.float64).numpy()
        slot = self._tree.find(part * (self._tree.total / batch_size))
        p = self._tree.priority[slot]
        weight = (p / p.min()) ** -beta  # (N P)^-beta over its maximum in the minibatch: N and the sum cancel
        return torch.from_numpy(slot), torch.from_numpy(weight).float()

    def update(self, index: Tensor, error: Tensor) -> None:
        """Errors of slots, ``(B,)`` each, of any sign; where a slot occurs twice, its last error counts.

        Raises:
            UserError: An error is not finite.
        """
        self._take_new()
        slot = index.cpu().numpy()
        p = (np.abs(error.detach().cpu().double().numpy()) + self.options.epsilon) ** self.options.alpha
        if not np.isfinite(p).all():
            raise UserError("training diverged: an error is not finite. Lower the learning rate, or clip gradients.")
        self._largest = max(self._largest, float(p.max()))
        self._tree.set(slot, p * (self._kind[slot] != NOTHING))  # one that was overwritten meanwhile has none

    def _take_new(self) -> None:
        if self.touched:
            slot = np.array(self.touched)
            self._tree.set(slot, (self._kind[slot] != NOTHING) * self._largest)
            self.touched.clear()

    def state_dict(self) -> dict[str, Any]:
        """Priorities of all slots, ``(M,)``, and the largest so far."""
        self._take_new()
        return {"priority": torch.from_numpy(self._tree.priority.copy()), "largest": self._largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave, but for transitions that no longer exist."""
        self._tree.set(np.arange(len(self._kind)), state["priority"].numpy() * (self._kind != NOTHING))
        self._largest = state["largest"]
        self.touched.clear()
