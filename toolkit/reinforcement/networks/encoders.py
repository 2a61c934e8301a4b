"""From observations to features: what the networks of all agents begin with.

Shape legend: B observations, S an observation's shape, C channels, H height, W width, D features.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.fused_layers import FusedLayers

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


class Encoder(ABC):
    """Describes an encoder; a network builds from it as many as it needs, for its observations."""

    @abstractmethod
    def build(self, observation_shape: Sequence[int]) -> tuple[nn.Module, int]:
        """A module from ``(B, *S)`` to ``(B, D)``, and D.

        Raises:
            UserError: Observations of this shape are not for this encoder.
        """


class MLPEncoder(Encoder):
    """Fully connected layers on flattened vectors.

    Args:
        hidden: Width of each layer; empty for the observations as they are.
        activation: Behind each layer.
    """

    def __init__(self, hidden: Sequence[int] = (64, 64), activation: Literal["relu", "tanh", "silu"] = "relu") -> None:
        self.hidden, self.activation = tuple(hidden), activation

    def build(self, observation_shape: Sequence[int]) -> tuple[nn.Module, int]:
        """The layers."""
        if not observation_shape:
            raise UserError(
                "model.init_args.net: an observation is a single number (of a state, or a Box of shape ()), which "
                "MLPEncoder does not read; add gymnasium.wrappers.FlattenObservation to data.init_args.wrappers."
            )
        widths = [math.prod(observation_shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()] if len(observation_shape) > 1 else []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[self.activation]()]
        return FusedLayers(*layers), widths[-1]


class NatureEncoder(Encoder):
    """The three convolutions and the layer of 512 units of the Atari agents, on bytes; floats are read as they are.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature, 2015, Methods.

    Args:
        width: D.
    """

    def __init__(self, width: int = 512) -> None:
        self.width = width

    def build(self, observation_shape: Sequence[int]) -> tuple[nn.Module, int]:
        """The layers."""
        if len(observation_shape) != 3 or min(observation_shape[1:]) < 36:
            raise UserError(
                f"model.init_args.net: NatureEncoder reads images (C, H, W) of 36 x 36 or more, and the observations "
                f"are {tuple(observation_shape)}; use MLPEncoder, or wrappers that resize and put channels first."
            )
        convolutions = nn.Sequential(
            Scale(),
            nn.Conv2d(observation_shape[0], 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = convolutions(torch.zeros(1, *observation_shape)).shape[1]
        return nn.Sequential(convolutions, nn.Linear(flat, self.width), nn.ReLU()), self.width


class Scale(nn.Module):
    """Bytes to ``[0, 1]``; floats, which something has scaled before, as they are."""

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, C, H, W)``, 0..255 or floats, to floats."""
        return pixels if pixels.is_floating_point() else pixels.to(torch.get_default_dtype()) / 255


def orthogonal(module: nn.Module, gain: float) -> None:
    """Draw all linear and convolution weights anew, orthogonal (Saxe et al., ICLR 2014); biases are zero."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
