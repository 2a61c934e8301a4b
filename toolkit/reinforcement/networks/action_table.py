"""A table of action values. Shape legend: B observations, S states, K actions."""

import torch
from torch import Tensor, nn

from toolkit.errors import UserError


class ActionTable(nn.Module):
    """``Q(s, a)``: a number for each action in each state.

    >>> ActionTable(num_states=5, num_actions=2)(torch.tensor([4, 0, 0])).shape
    torch.Size([3, 2])

    Args:
        num_states: S; of environments whose observations are numbers of states.
        num_actions: K; of discrete action spaces.
        initial: Value of all actions in all states. One that is above the true values makes the agent try everything
            that it does not know (Sutton and Barto, "Reinforcement Learning", 2018, section 2.6).

    Raises:
        UserError: The environment's states or actions are not numbered.
    """

    def __init__(self, num_states: int | None = None, num_actions: int | None = None, initial: float = 0.0) -> None:
        super().__init__()
        if num_states is None or num_actions is None:
            what = "observations" if num_states is None else "actions"
            raise UserError(
                f"model.init_args.net: a table has a row for each state and a column for each action, and this "
                f"environment's {what} are not numbered; take an environment such as FrozenLake-v1, Taxi-v4 or "
                "CliffWalking-v1, or an agent with a network, such as DQN or PPO."
            )
        if num_states < 1 or num_actions < 1:
            raise UserError(
                f"model.init_args.net: need num_states and num_actions >= 1, got {num_states} and {num_actions}."
            )
        self.value = nn.Parameter(torch.full((num_states, num_actions), float(initial)))

    def forward(self, observation: Tensor) -> Tensor:
        """Numbers of states, ``(B,)``, to ``(B, K)``."""
        return self.value[observation]
