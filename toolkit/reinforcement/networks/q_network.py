"""Action values. Shape legend: B observations, S an observation's shape, D features, K actions, A atoms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.fused_layers import side_by_side
from toolkit.nn.noisy_linear import NoisyLinear
from toolkit.reinforcement.networks.encoders import Encoder, MLPEncoder


class QNetwork(nn.Module):
    """The value of each action in an observation, or its distribution.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature, 2015, and what was added since:

    - dueling: Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning", ICML 2016, eq. 9: a stream
      for the value of the state, and one for what each action adds to it, whose mean is subtracted. Departures: both
      read the encoder's last layer; their gradients into it are not scaled.
    - noisy: Fortunato et al., ICLR 2018: the streams' layers are noisy, the encoder's are not.
    - atoms: Bellemare et al., ICML 2017: logits of a distribution over A values, evenly spaced over ``value_range``.

    Linear layers begin as torch's own.

    Args:
        observation_shape: S.
        num_actions: K.
        encoder: From observations to D features; an MLP of two layers of 64 if None.
        stream_width: Of a hidden layer with ReLU in each stream; there is none if None.
        dueling: Whether there are two streams.
        noisy: Whether the streams' weights are noisy.
        atoms: A; 1 for values instead of distributions.
        value_range: The least atom and the largest; returns, discounted, should lie between.

    Raises:
        UserError: No actions, no atoms or a range that is none.

    >>> QNetwork((4,), 2, dueling=True, atoms=51)(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    support: Tensor

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int | None,
        encoder: Encoder | None = None,
        stream_width: int | None = None,
        dueling: bool = False,
        noisy: bool = False,
        atoms: int = 1,
        value_range: tuple[float, float] = (-10.0, 10.0),
    ) -> None:
        super().__init__()
        if num_actions is None:
            raise UserError("model.init_args.net: QNetwork values discrete actions; the environment's are continuous.")
        if atoms < 1 or (atoms > 1 and value_range[0] >= value_range[1]):
            raise UserError(
                f"model.init_args.net: need atoms of at least 1 and a rising value_range, got {atoms} and "
                f"{list(value_range)}; write atoms: 51 and value_range: [-10, 10], or leave both out."
            )
        self.num_actions, self.atoms, self.noisy = num_actions, atoms, noisy
        self.encoder, width = (encoder or MLPEncoder()).build(observation_shape)
        self.actions = self._stream(width, stream_width, num_actions * atoms)
        self.state = self._stream(width, stream_width, atoms) if dueling else None
        self.register_buffer("support", torch.linspace(*value_range, atoms), persistent=False)
        self._noisy_layers = [layer for layer in self.modules() if isinstance(layer, NoisyLinear)]

    def _stream(self, features: int, hidden: int | None, outputs: int) -> nn.Module:
        linear = NoisyLinear if self.noisy else nn.Linear
        if hidden is None:
            return linear(features, outputs)
        return nn.Sequential(linear(features, hidden), nn.ReLU(), linear(hidden, outputs))

    def reset_noise(self) -> None:
        """Draw the noise of all noisy layers anew."""
        for layer in self._noisy_layers:
            layer.reset_noise()

    def outputs(self, observation: Tensor) -> Tensor:
        """``(B, *S)`` to values ``(B, K)``, or with atoms to logits ``(B, K, A)``."""
        if self.state is None and isinstance(self.actions, nn.Linear):
            (advantage,) = side_by_side(observation, (self.encoder, self.actions))  # (B, K * A)
        else:
            features = self.encoder(observation)  # (B, D)
            advantage = self.actions(features)
        if self.atoms > 1:
            advantage = advantage.view(-1, self.num_actions, self.atoms)  # (B, K, A)
        if self.state is None:
            return advantage
        value: Tensor = self.state(features)  # (B, A)
        if self.atoms > 1:
            value = value[:, None]  # (B, 1, A)
        return value + advantage - advantage.mean(dim=1, keepdim=True)

    def values(self, outputs: Tensor) -> Tensor:
        """What `outputs` gave as values ``(B, K)``: the distributions' means."""
        return outputs if self.atoms == 1 else outputs.softmax(dim=-1) @ self.support

    def forward(self, observation: Tensor) -> Tensor:
        """``(B, *S)`` to ``(B, K)``."""
        return self.values(self.outputs(observation))
