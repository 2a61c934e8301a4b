"""The networks of soft actor-critic. Shape legend: S an observation's shape, A action dimensions."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from toolkit.reinforcement.networks.encoders import Encoder, MLPEncoder
from toolkit.reinforcement.networks.squashed_gaussian_actor import (
    IndependentNoiseActor,
    SquashedGaussianActor,
    StateDependentExploration,
    StateDependentNoiseActor,
)
from toolkit.reinforcement.networks.twin_critics import TwinCritics


class SoftActorCritic(nn.Module):
    """A squashed Gaussian actor and twin critics, which share no layer.

    Args:
        observation_shape: S.
        action_dim: A.
        encoder: Describes the actor's layers before its heads; two of 256 with ReLU if None.
        critic_hidden: Width of each hidden layer of the critics.
        critic_activation: Behind each of them.
        exploration: Noise that depends on the state; new noise every step if None.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_dim: int,
        encoder: Encoder | None = None,
        critic_hidden: Sequence[int] = (256, 256),
        critic_activation: Literal["relu", "tanh", "silu"] = "relu",
        exploration: StateDependentExploration | None = None,
    ) -> None:
        super().__init__()
        encoder = encoder or MLPEncoder((256, 256))
        self.actor: SquashedGaussianActor = (
            IndependentNoiseActor(encoder, observation_shape, action_dim)
            if exploration is None
            else StateDependentNoiseActor(encoder, observation_shape, action_dim, exploration)
        )
        self.critics = TwinCritics(observation_shape, action_dim, critic_hidden, critic_activation)

    def forward(self, observation: Tensor) -> Tensor:
        """The greedy action: ``(B, *S)`` to ``(B, A)``."""
        return self.actor.greedy(observation)
