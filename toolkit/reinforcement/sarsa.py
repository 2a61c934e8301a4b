"""SARSA. Shape legend: N environments, K actions."""

from typing import Any

import torch
from torch import Tensor

from toolkit.experience import PolicyStep, VectorStep
from toolkit.reinforcement.tabular import TabularTask


class SARSA(TabularTask):
    """The values of the very policy that explores.

    Rummery and Niranjan, "On-Line Q-Learning Using Connectionist Systems", Cambridge, 1994. The update is in
    `toolkit.reinforcement.tabular.TabularTask`, with ``V(s') = Q(s', a')``, where ``a'`` is the action that will be
    taken next. It is chosen before the update, and carried to the next step, also into the next item of the stream and
    through a checkpoint. Where an episode was cut, ``a'`` is chosen like any other, and never taken. Arguments: as
    there.
    """

    next_action: Tensor | None = None
    """``(N,)``, chosen in the last observations; None before the first step."""

    @torch.no_grad()
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """What was chosen before; anew where an episode begins."""
        if self.next_action is None or bool(start.all()):
            return PolicyStep(self.epsilon_greedy(observation))
        if bool(start.any()):
            return PolicyStep(self.epsilon_greedy(observation).where(start, self.next_action))
        return PolicyStep(self.next_action)

    @torch.no_grad()
    def next_value(self, step: VectorStep) -> Tensor:
        """``Q(s', a')``."""
        self.next_action = self.epsilon_greedy(step.next_observation)
        value: Tensor = self.net(step.next_observation)
        return value.gather(1, self.next_action[:, None])[:, 0]

    def on_fit_start(self) -> None:
        """The actions of a checkpoint, which was read before the table moved, follow it."""
        super().on_fit_start()
        if self.next_action is not None:
            self.next_action = self.next_action.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also the actions that all ranks have chosen."""
        super().on_save_checkpoint(checkpoint)
        if self._trainer is not None and self.trainer.state.fn == "fit" and self.next_action is not None:
            chosen: Any = self.all_gather(self.next_action)  # ([ranks,] N)
            checkpoint["next_action"] = chosen.reshape(-1, self.next_action.shape[0]).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """This rank's; on another number of ranks all episodes begin anew."""
        super().on_load_checkpoint(checkpoint)
        fitting = self._trainer is not None and self.trainer.state.fn == "fit"
        if fitting and len(chosen := checkpoint.get("next_action", ())) == self.trainer.world_size:
            self.next_action = chosen[self.trainer.global_rank]
