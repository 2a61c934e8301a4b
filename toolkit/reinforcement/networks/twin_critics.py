"""Two critics in one.

Shape legend: B observations, S an observation's shape, A action dimensions, I and O a layer's widths.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.reinforcement.networks.encoders import ACTIVATIONS


class TwinLinear(nn.Module):
    """Two linear layers side by side, each with its own weights; drawn as torch draws a linear layer's.

    Args:
        inputs: I.
        outputs: O.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """``(2, B, I)`` to ``(2, B, O)``, in one multiplication of a batch of two matrices."""
        return torch.baddbmm(self.bias, x, self.weight)


class TwinHead(nn.Module):
    """`TwinLinear` with one output, as products and a sum: a matrix of one column takes five times as long.

    Args:
        inputs: I.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(2, 1, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, 1).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """``(2, B, I)`` to ``(2, B)``."""
        return (x * self.weight).sum(dim=-1) + self.bias


class TwinCritics(nn.Module):
    """Two action values of different weights, whose smaller one overestimates less.

    Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018. One module computes
    both, because the kernels of two small networks cost half as much in one batch.

    Args:
        observation_shape: S, of vectors.
        action_dim: A.
        hidden: Width of each layer.
        activation: Behind each hidden layer.

    Raises:
        UserError: The observations are images or numbers of states.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        activation: Literal["relu", "tanh", "silu"] = "relu",
    ) -> None:
        super().__init__()
        if len(observation_shape) not in (1, 2):
            raise UserError(
                f"model.init_args.net: TwinCritics read vectors, and the observations are {tuple(observation_shape)}; "
                "add gymnasium.wrappers.FlattenObservation to data.init_args.wrappers, or take PPO."
            )
        widths = [math.prod(observation_shape) + action_dim, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [TwinLinear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, TwinHead(widths[-1]))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """``(B, *S)`` and ``(B, A)`` to ``(2, B)``."""
        x = torch.cat([observation.flatten(1), action], dim=-1)
        q: Tensor = self.layers(x.expand(2, -1, -1))
        return q.float()
