"""A policy and a value function.

Shape legend: T time steps, N environments, B observations, S an observation's shape, D features, H units of an LSTM,
L states of LSTMs, K actions, A action dimensions.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.fused_layers import side_by_side
from toolkit.reinforcement.distributions import Categorical, DiagonalGaussian, Distribution
from toolkit.reinforcement.networks.encoders import Encoder, MLPEncoder, orthogonal


class ActorCritic(nn.Module):
    """What an action is chosen by, and what is to be expected of it, on encoders of their own or a common one.

    The standard deviation of continuous actions does not depend on the observation. All weights are drawn orthogonal
    with gain sqrt(2) in the encoders, 0.01 for the actions, so that all are about equally probable at first, 1 for the
    value and in LSTMs; biases are zero.

    Args:
        observation_shape: S.
        num_actions: K of a discrete action space.
        action_dim: A of a continuous one.
        encoder: Of the actor; two layers of 64 tanh units if None.
        critic_encoder: Of the critic; one like the actor's if None.
        shared: Whether the critic reads the actor's features.
        lstm: H, units of the LSTM behind each encoder, which makes the policy recurrent; none if None.
        initial_log_std: Logarithm of the standard deviation of continuous actions at first.

    Raises:
        UserError: The action space is not one of the two; the critic's features are given twice.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int | None = None,
        action_dim: int | None = None,
        encoder: Encoder | None = None,
        critic_encoder: Encoder | None = None,
        shared: bool = False,
        lstm: int | None = None,
        initial_log_std: float = 0.0,
    ) -> None:
        super().__init__()
        if (num_actions is None) == (action_dim is None):
            raise UserError(f"ActorCritic: give num_actions or action_dim, got {num_actions} and {action_dim}.")
        if shared and critic_encoder is not None:
            raise UserError("ActorCritic: a critic with an encoder of its own shares none; leave critic_encoder out.")
        encoder = encoder or MLPEncoder((64, 64), "tanh")
        self.encoder, width = encoder.build(observation_shape)
        self.critic_encoder: nn.Module | None = None
        critic_width = width
        if not shared:
            self.critic_encoder, critic_width = (critic_encoder or encoder).build(observation_shape)
        self.units = lstm
        self.lstms = nn.ModuleList()
        if lstm is not None:
            self.lstms.extend(nn.LSTM(inputs, lstm) for inputs in ([width] if shared else [width, critic_width]))
            width = critic_width = lstm
        self.actor = nn.Linear(width, num_actions or action_dim or 0)
        self.critic = nn.Linear(critic_width, 1)
        self.log_std = None if action_dim is None else nn.Parameter(torch.full((action_dim,), float(initial_log_std)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module, gain in ((self.encoder, math.sqrt(2)), (self.critic_encoder, math.sqrt(2)),
                             (self.actor, 0.01), (self.critic, 1.0)):  # fmt: skip
            if module is not None:
                orthogonal(module, gain)
        for name, parameter in self.lstms.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    @property
    def is_recurrent(self) -> bool:
        """Whether it has a memory, and reads sequences."""
        return self.units is not None

    def initial_memory(self, count: int) -> Tensor:
        """The memory before anything was seen, ``(L, N, H)``: output and cell of each LSTM."""
        return self.critic.weight.new_zeros(2 * len(self.lstms), count, self.units or 0)

    def forward(
        self, observation: Tensor, memory: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Look at observations.

        Args:
            observation: ``(B, *S)``; of a recurrent network sequences ``(T, N, *S)``.
            memory: ``(L, N, H)``, before the sequences; of a recurrent network.
            start: ``(T, N)``, bool, where an episode begins and the memory is cleared; of a recurrent network.

        Returns:
            The policy's parameters, ``(B, K)`` or ``(B, A)``, for `policy`; the value, ``(B,)``; and the memory behind
            the sequences. ``(T, N)`` stands in the place of B for a recurrent network.
        """
        if memory is None and self.critic_encoder is not None:
            actor, critic = (self.encoder, self.actor), (self.critic_encoder, self.critic)
            parameters, value = side_by_side(observation, actor, critic)
        else:
            feature, critic_feature, memory = self._features(observation, memory, start)
            parameters, value = self.actor(feature), self.critic(critic_feature)
        dtype = torch.promote_types(value.dtype, torch.float32)  # 16 bits are too few for a ratio of probabilities
        return parameters.to(dtype), value.squeeze(-1).to(dtype), memory

    def policy(self, parameters: Tensor) -> Distribution:
        """The distribution of the actions, from what `forward` gives for them."""
        return Categorical(parameters) if self.log_std is None else DiagonalGaussian(parameters, self.log_std)

    def _features(
        self, observation: Tensor, memory: Tensor | None, start: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The actor's, the critic's, and the memory."""
        if memory is None:
            feature = self.encoder(observation)  # (B, D)
            return feature, feature, None
        assert start is not None
        encoders = [self.encoder] if self.critic_encoder is None else [self.encoder, self.critic_encoder]
        outputs, states = [], []
        for encoder, lstm, state in zip(encoders, self.lstms, memory.view(-1, 2, *memory.shape[1:]), strict=True):
            feature = encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)  # (T, N, D)
            output, state = _run(lstm, feature, state, start)
            outputs.append(output)
            states.append(state)
        return outputs[0], outputs[-1], torch.cat(states)


def _run(lstm: nn.Module, feature: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM on ``(T, N, D)``, cut into spans at whose beginnings only an episode begins; to ``(T, N, H)``."""
    begins = [0, *(start[1:].any(dim=1).nonzero().squeeze(1) + 1).tolist(), len(start)]
    outputs = []
    for begin, end in itertools.pairwise(begins):
        state = state * (~start[begin]).to(state.dtype)[:, None]  # (2, N, H)
        output, (hidden, cell) = lstm(feature[begin:end], (state[:1].contiguous(), state[1:].contiguous()))
        state = torch.cat([hidden, cell])
        outputs.append(output)
    return torch.cat(outputs), state
