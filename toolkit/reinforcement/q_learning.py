"""Q-learning. Shape legend: N environments, K actions."""

import torch
from torch import Tensor

from toolkit.experience import VectorStep
from toolkit.reinforcement.tabular import TabularTask


class QLearning(TabularTask):
    """The values of the best policy, from the steps of one that explores.

    Watkins, "Learning from Delayed Rewards", PhD thesis, Cambridge, 1989; Watkins and Dayan, "Q-Learning", Machine
    Learning, 1992. The update is in `toolkit.reinforcement.tabular.TabularTask`, with ``V(s') = max_a Q(s', a)``.
    Arguments: as there.
    """

    @torch.no_grad()
    def next_value(self, step: VectorStep) -> Tensor:
        """``max_a Q(s', a)``: as if the best action followed, whatever will."""
        value: Tensor = self.net(step.next_observation).amax(dim=1)
        return value
