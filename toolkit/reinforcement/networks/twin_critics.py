"""Two critics in one.

Shape legend: B observations, S an observation's shape, A action dimensions, I and O a layer's widths.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        self.is_relu = activation == "relu"
        self.layers = nn.Sequential(*layers, TwinHead(widths[-1]))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """``(B, *S)`` and ``(B, A)`` to ``(2, B)``."""
        x = torch.cat([observation.flatten(1), action], dim=-1)
        q: Tensor = self.layers(x.expand(2, -1, -1))
        return q.float()

    def smaller(self, observation: Tensor, action: Tensor) -> Tensor:
        """``min(Q_1, Q_2)``, ``(B, *S)`` and ``(B, A)`` to ``(B,)``, of which only the action is to have a gradient."""
        if not self.is_relu or action.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            smaller: Tensor = self(observation, action).amin(dim=0)
            return smaller
        x = torch.cat([observation.flatten(1), action], dim=-1)
        smaller = _Smaller.apply(x, *(parameter.detach() for parameter in self.layers.parameters()))
        return smaller


class _Smaller(torch.autograd.Function):
    """The smaller of two values, whose gradient goes back through the smaller critic of each row, and not through both.

    That halves the backward pass. Which rows are whose is known when it begins, so it is for devices that need not wait
    for such an answer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        outputs = [x.expand(2, -1, -1)]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            outputs.append(torch.baddbmm(bias, outputs[-1], weight).relu_())  # (2, B, O)
        q_1, q_2 = (outputs[-1] * weights[-1]).sum(dim=-1) + biases[-1]
        ctx.shape = x.shape
        ctx.save_for_backward(q_2 < q_1, *outputs[1:], *weights)
        return torch.minimum(q_1, q_2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        is_second, *saved = ctx.saved_tensors
        hidden, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        (of_value,) = gradients  # (B,)
        of_x = of_value.new_empty(ctx.shape)  # (B, I)
        for number, rows in enumerate(((~is_second).nonzero()[:, 0], is_second.nonzero()[:, 0])):
            gradient = of_value[rows, None] * weights[-1][number]  # (B of this critic, O)
            for output, weight in zip(reversed(hidden), reversed(weights[:-1]), strict=True):
                gradient = torch.ops.aten.threshold_backward(gradient, output[number][rows], 0) @ weight[number].t()
            of_x[rows] = gradient
        return of_x, *(None for _ in range(2 * len(weights)))
