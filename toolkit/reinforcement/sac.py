"""Soft actor-critic. Shape legend: B transitions, N environments, S an observation's shape, A action dimensions."""

import copy
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.experience import PolicyStep, ReplaySource, Transitions
from toolkit.reinforcement.networks.soft_actor_critic import SoftActorCritic
from toolkit.reinforcement.reinforcement_task import ReinforcementTask, trained
from toolkit.task import SchedulerConfig

ACTOR, CRITICS, TEMPERATURE = 0, 1, 2
"""Places of the optimizers."""
SCALARS = ("loss", "actor_loss", "temperature", "entropy", "q_mean", "temperature_loss")


class SAC(ReinforcementTask):
    r"""A stochastic actor that earns rewards and stays as random as it can, and twin critics of what that is worth.

    Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, arXiv:1812.05905: actor and critics learn
    the maximum of

    .. math::
        \mathbb{E} \sum_t \gamma^t \left( r_t + \alpha\, \mathcal{H}(\pi(\cdot | s_t)) \right),

    with a temperature :math:`\alpha` that keeps the entropy at a target. Actions are in ``[-1, 1]``. With
    ``net.init_args.exploration`` the noise of the collected actions depends on the state (Raffin et al., CoRL 2021).

    Args:
        net: Actor and critics.
        gamma: Discount of a time step.
        tau: Share by which the target critics approach the critics with each update.
        temperature: :math:`\alpha`, if it is fixed; learned if None.
        initial_temperature: From where it is learned.
        target_entropy: :math:`\bar{\mathcal{H}}`, in nats, of actions in ``[-1, 1]``; -A if None.
        optimizer: Of the actor, and of the temperature; Adam with a learning rate of 3e-4 if None.
        critic_optimizer: Of the critics; as ``optimizer`` if None.
        scheduler: Of all learning rates; constant if None.
        scheduler_config: When the schedulers step.
        gradient_clip_val: Largest norm of each optimizer's gradient; none if None.
        num_actions: Of a discrete action space, which it refuses.
        action_low: The least action, ``(A,)``.
        action_high: The largest.
        total_steps: Environment steps of the whole run, over all ranks.

    Raises:
        UserError: ``tau`` or a temperature is out of range; the action space is discrete.
    """

    net: SoftActorCritic
    source = ReplaySource
    actions: ClassVar[tuple[Literal["discrete", "continuous"], ...]] = ("continuous",)
    log_temperature: Tensor

    def __init__(
        self,
        net: SoftActorCritic,
        gamma: float = 0.99,
        tau: float = 0.005,
        temperature: float | None = None,
        initial_temperature: float = 1.0,
        target_entropy: float | None = None,
        optimizer: OptimizerCallable | None = None,
        critic_optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        gradient_clip_val: float | None = None,
        num_actions: int | None = None,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        total_steps: int | None = None,
    ) -> None:
        if not 0 < tau <= 1:
            raise UserError(f"model.init_args.tau: need a share in (0, 1], got {tau}.")
        for name, value in (("temperature", temperature), ("initial_temperature", initial_temperature)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"model.init_args.{name}: need a positive number, got {value}.")
        super().__init__(
            net,
            gamma=gamma,
            num_actions=num_actions,
            action_low=action_low,
            action_high=action_high,
            total_steps=total_steps,
            scalars=SCALARS if temperature is None else SCALARS[:-1],
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_config=scheduler_config,
            gradient_clip_val=gradient_clip_val,
        )
        self.target_critics = copy.deepcopy(net.critics).requires_grad_(False)
        self.tau = tau
        self.target_entropy = -float(len(self.action_low)) if target_entropy is None else target_entropy
        self.critic_optimizer = critic_optimizer
        self.learns_temperature = temperature is None
        log_temperature = torch.tensor(math.log(initial_temperature if temperature is None else temperature))
        if self.learns_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)

    # Acting -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """A draw from the policy."""
        return PolicyStep(self.net.actor.explore(observation, start))

    def greedy(self, observation: Tensor, start: Tensor) -> Tensor:
        """The policy's median action."""
        return self.net.actor.greedy(observation)

    # Learning ---------------------------------------------------------------------------------------------------------

    def learn(self, source: ReplaySource) -> dict[str, Tensor]:
        """One update for each minibatch."""
        self.net.actor.new_item()
        updates = [self._update(batch, source) for batch in source.minibatches(self)]
        return dict(zip(SCALARS, torch.stack(updates).mean(dim=0).unbind(), strict=False)) if updates else {}

    def _update(self, batch: Transitions, source: ReplaySource) -> Tensor:
        """Temperature, critics, actor and target critics, in this order; the scalars of the log."""
        alpha = self.log_temperature.detach().exp()
        action, log_pi = self.net.actor(batch.observation)  # (B, A), (B,)
        entropy = -log_pi.detach().mean()

        # J(alpha), eq. 18, with log alpha in alpha's place, as in the authors' code
        temperature_losses = []
        if self.learns_temperature:
            temperature_losses = [self.log_temperature * (entropy - self.target_entropy)]
            self.update(TEMPERATURE, *temperature_losses)

        # J(Q), eq. 5 and 6
        y = self._target(batch, alpha)  # (B,)
        q = self.net.critics(batch.observation, batch.action)  # (2, B)
        error = q - y
        critic_loss = 0.5 * (batch.weight * error.square()).mean(dim=1).sum()
        self.update(CRITICS, critic_loss)
        source.update_priorities(batch.index, error.detach().abs().mean(dim=0))

        # J(pi), eq. 7 and 9: the gradient passes through the critics to the action, and stops there
        actor_loss = (alpha * log_pi - self.net.critics.smaller(batch.observation, action)).mean()
        self.update(ACTOR, actor_loss)

        with torch.no_grad():
            torch._foreach_lerp_(list(self.target_critics.parameters()), list(self.net.critics.parameters()), self.tau)
        return torch.stack([critic_loss, actor_loss, alpha, entropy, q.mean(), *temperature_losses]).detach()

    @torch.no_grad()
    def _target(self, batch: Transitions, alpha: Tensor) -> Tensor:
        """What the critics should say, ``(B,)``: rewards, and behind them the soft value unless they were the last."""
        action, log_pi = self.net.actor(batch.next_observation)
        q_1, q_2 = self.target_critics(batch.next_observation, action)
        soft_value = torch.minimum(q_1, q_2) - alpha * log_pi
        return torch.addcmul(batch.reward, batch.discount, soft_value)

    # Optimizers -------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The actor's, the critics' and, where it is learned, the temperature's."""
        learners: list[tuple[OptimizerCallable | None, list[Tensor]]] = [
            (self.optimizer, trained(self.net.actor.parameters())),
            (self.critic_optimizer or self.optimizer, trained(self.net.critics.parameters())),
        ]
        if self.learns_temperature:
            learners.append((self.optimizer, [self.log_temperature]))
        return [
            self._scheduled(build(parameters) if build else torch.optim.Adam(parameters, lr=3e-4, fused=True))
            for build, parameters in learners
        ]
