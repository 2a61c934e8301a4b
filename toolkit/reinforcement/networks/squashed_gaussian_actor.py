"""Actors whose actions are normal and then squeezed by a tanh.

Shape legend: B observations, N environments, S an observation's shape, D features, A action dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.reinforcement.networks.encoders import Encoder
from toolkit.reinforcement.squashed_gaussian import SquashedSample, squashed_gaussian

LOG_STD_RANGE = (-20.0, 2.0)
"""Of the authors' code."""


@dataclass(frozen=True)
class StateDependentExploration:
    """Noise that is a function of the state, and for a while the same function, instead of new noise every step.

    Raffin et al., "Smooth Exploration for Robotic Reinforcement Learning", CoRL 2021.

    Args:
        every: Steps after which a new function is drawn, besides one at each episode's start and at the start of each
            training step; None: those alone.
        log_std_init: Logarithm of the standard deviation of the function's weights, at first.
    """

    every: int | None = None
    log_std_init: float = -3.0

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise UserError(f"model.init_args.net.init_args.exploration.every: need at least 1 step, got {self.every}.")


class SquashedGaussianActor(nn.Module, ABC):
    """A policy over actions in ``[-1, 1]^A``.

    Args:
        encoder: Describes the layers before the heads.
        observation_shape: S.
    """

    def __init__(self, encoder: Encoder, observation_shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.features = encoder.build(observation_shape)

    @abstractmethod
    def distribution(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh: ``(B, *S)`` to ``(B, A)`` each."""

    @abstractmethod
    def mean(self, observation: Tensor) -> Tensor:
        """The mean alone."""

    @abstractmethod
    def explore(self, observation: Tensor, start: Tensor) -> Tensor:
        """Actions to collect experience with, ``(N, *S)`` to ``(N, A)``; ``start`` as in `Policy.act`."""

    def new_item(self) -> None:
        """A training step begins."""

    def forward(self, observation: Tensor) -> SquashedSample:
        """Actions with their log densities, through which gradients flow to the parameters."""
        mean, log_std = self.distribution(observation)
        return squashed_gaussian(mean, log_std, torch.randn_like(mean))

    def greedy(self, observation: Tensor) -> Tensor:
        """The median action, ``(B, A)``."""
        return self.mean(observation).tanh()


class IndependentNoiseActor(SquashedGaussianActor):
    """Mean and standard deviation from one layer on the features; new noise every step.

    Args:
        encoder: Describes the layers before the heads.
        observation_shape: S.
        action_dim: A.
    """

    def __init__(self, encoder: Encoder, observation_shape: Sequence[int], action_dim: int) -> None:
        super().__init__(encoder, observation_shape)
        self.heads = nn.Linear(self.features, 2 * action_dim)

    def distribution(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Both heads."""
        mean, log_std = self._heads(observation)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def mean(self, observation: Tensor) -> Tensor:
        """The first half of the heads."""
        return self._heads(observation)[0]

    def explore(self, observation: Tensor, start: Tensor) -> Tensor:
        """A draw from the policy."""
        mean, log_std = self.distribution(observation)
        return torch.addcmul(mean, log_std.exp(), torch.randn_like(mean)).tanh()

    def _heads(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.heads(self.encoder(observation)).float().chunk(2, dim=-1)
        return mean, log_std


class StateDependentNoiseActor(SquashedGaussianActor):
    r"""The noise is :math:`\theta_\epsilon^\top \phi(s)`, by a matrix :math:`\theta_\epsilon` that is kept for a while.

    Its ``(D, A)`` entries are independent and :math:`N(0, \sigma_{ij}^2)`, and :math:`\phi(s)` are the features. So
    over the draws of the matrix the action before the tanh is normal with variance
    :math:`\sum_i \phi_i(s)^2 \sigma_{ij}^2`, and so is its density in the losses. There each state has a draw of its
    own from that distribution, and not one matrix for the whole minibatch, which has the same expectation and less
    variance. Gradients flow into the features through the variance, too.

    Args:
        encoder: Describes the layers before the heads.
        observation_shape: S.
        action_dim: A.
        exploration: How long a matrix lasts, and how large the noise is at first.
    """

    epsilon = 1e-6
    """Added to the variance, which is 0 where all features are, and has an infinite slope of its root there."""

    def __init__(
        self,
        encoder: Encoder,
        observation_shape: Sequence[int],
        action_dim: int,
        exploration: StateDependentExploration,
    ) -> None:
        super().__init__(encoder, observation_shape)
        self.mean_head = nn.Linear(self.features, action_dim)
        self.log_std = nn.Parameter(torch.full((self.features, action_dim), exploration.log_std_init))
        """Of the matrix's entries."""
        self.every = exploration.every
        self.new_item()

    def distribution(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the standard deviation that follows from the features."""
        phi = self.encoder(observation)  # (B, D)
        variance = phi.square() @ (2 * self.log_std).exp()  # (B, A)
        return self.mean_head(phi).float(), 0.5 * (variance.float() + self.epsilon).log()

    def mean(self, observation: Tensor) -> Tensor:
        """The head's."""
        mean: Tensor = self.mean_head(self.encoder(observation)).float()
        return mean

    def new_item(self) -> None:
        """Forget the matrices: so they are no state that a checkpoint between two training steps would have to hold."""
        self.unit_noise: Tensor | None = None
        self.age = 0

    def explore(self, observation: Tensor, start: Tensor) -> Tensor:
        """The mean and the noise that the matrix of each environment says."""
        phi = self.encoder(observation)  # (N, D)
        theta = self._renewed(start, phi) * self.log_std.exp()  # (N, D, A)
        action: Tensor = (self.mean_head(phi) + (phi.unsqueeze(1) @ theta).squeeze(1)).float().tanh()
        return action

    def _renewed(self, start: Tensor, phi: Tensor) -> Tensor:
        """The matrices, ``(N, D, A)``, in units of their standard deviations; new ones where it is time."""
        shape = (len(start), *self.log_std.shape)
        if self.unit_noise is None or self.age == self.every:
            self.unit_noise = torch.randn(shape, device=phi.device, dtype=phi.dtype)
            self.age = 0
        elif bool(start.any()):
            fresh = torch.randn(shape, device=phi.device, dtype=phi.dtype)
            self.unit_noise = torch.where(start[:, None, None], fresh, self.unit_noise)
        self.age += 1
        return self.unit_noise
