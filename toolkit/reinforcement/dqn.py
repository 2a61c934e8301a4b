"""Deep Q-learning and Rainbow's parts. Shape legend: B transitions, N environments, S an observation, K actions."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from toolkit.errors import UserError
from toolkit.experience import PolicyStep, ReplaySource, Transitions
from toolkit.losses.categorical_projection import categorical_divergence, categorical_projection
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.q_network import QNetwork
from toolkit.reinforcement.reinforcement_task import ReinforcementTask, trained
from toolkit.task import SchedulerConfig


class Prediction(NamedTuple):
    """What a minibatch says of the network, ``(B,)`` each; only the output has a gradient."""

    output: Tensor
    """What is trained: the values of the actions that were taken, or how far their distributions are from the target.
    """
    slope: Tensor
    """The loss's derivative by the output."""
    error: Tensor
    """How wrong it was, of any sign, which prioritises; see `DQN.loss`."""
    value: Tensor
    """Of the actions that were taken."""


class DQN(ReinforcementTask):
    r"""Deep Q-learning: regression of action values on what a slower copy of the network makes of the next observation.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature, 2015, algorithm 1:

    .. math::
        y = r + \gamma \max_{a'} \hat Q(s', a'), \qquad \text{loss} = \mathrm{huber}(y - Q(s, a)).

    Hessel et al., "Rainbow: Combining Improvements in Deep Reinforcement Learning", AAAI 2018, adds six parts, each of
    which is a switch: ``double`` here; ``dueling``, ``noisy`` and ``atoms`` of `QNetwork`; ``n_step`` and
    ``prioritized`` of the DataModule's replay. With atoms the loss is the divergence of the predicted distribution from
    the projected target (Bellemare et al., ICML 2017).

    Args:
        net: Q.
        gamma: Discount of a time step.
        exploration: Share of random actions; without effect where the network is noisy.
        double: Whether Q itself says which next action is best, and the target only what it is worth (van Hasselt,
            Guez, Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016).
        target_update_every: Updates between two moves of the target, as in the Nature paper (C) and unlike in libraries
            that count environment steps.
        tau: Share of Q in a moved target: 1 copies.
        optimizer: Adam with a learning rate of 1e-4 if None.
        scheduler: Constant if None.
        scheduler_config: When the scheduler steps; a step is an item.
        gradient_clip_val: Largest norm of the gradient; none if None.
        num_actions: K, of the data.
        total_steps: Environment steps of the whole run, over all ranks.

    Raises:
        UserError: ``target_update_every`` or ``tau`` is out of its range; see `ReinforcementTask`.
    """

    net: QNetwork
    source = ReplaySource
    actions = ("discrete",)

    def __init__(
        self,
        net: QNetwork,
        gamma: float = 0.99,
        exploration: Exploration | None = None,
        double: bool = False,
        target_update_every: int = 1000,
        tau: float = 1.0,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        gradient_clip_val: float | None = None,
        num_actions: int | None = None,
        total_steps: int | None = None,
    ) -> None:
        if target_update_every < 1 or not 0 < tau <= 1:
            raise UserError(
                "model.init_args: need target_update_every of at least 1 and tau in (0, 1], got "
                f"{target_update_every} and {tau}."
            )
        super().__init__(
            net,
            gamma=gamma,
            num_actions=num_actions,
            total_steps=total_steps,
            scalars=("loss", "q_mean"),
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_config=scheduler_config,
            gradient_clip_val=gradient_clip_val,
        )
        self.target = copy.deepcopy(net).requires_grad_(False)
        self.exploration = exploration or Exploration()
        self.is_double = double
        self.target_update_every, self.tau = target_update_every, tau

    # Acting -----------------------------------------------------------------------------------------------------------

    @property
    def epsilon(self) -> float:
        """The share of random actions now."""
        return 0.0 if self.net.noisy else self.exploration.epsilon(self.progress)

    @property
    def schedule(self) -> str | None:
        """Epsilon falls."""
        return None if self.net.noisy or self.exploration.is_constant else "exploration"

    @torch.no_grad()
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """Epsilon-greedy, each environment for itself; with a noisy network greedy under new noise."""
        if self.net.noisy:
            self.net.reset_noise()
            return PolicyStep(self.greedy(observation, start))
        epsilon, draws = self.epsilon, torch.rand(observation.shape[0]).tolist()
        if max(draws) < epsilon:
            return PolicyStep(self.act_randomly(len(draws)))
        action = self.greedy(observation, start)
        if min(draws) < epsilon:
            chosen = torch.tensor([draw < epsilon for draw in draws], device=action.device)
            action = torch.where(chosen, self.act_randomly(len(draws)), action)
        return PolicyStep(action)

    def greedy(self, observation: Tensor, start: Tensor) -> Tensor:
        """The actions of the largest values, ``(N,)``."""
        values: Tensor = self.net(observation)  # (N, K)
        return values.argmax(dim=1)

    # Learning ---------------------------------------------------------------------------------------------------------

    def learn(self, source: ReplaySource) -> dict[str, Tensor]:
        """An update for each minibatch that the source says is due."""
        predictions: list[tuple[Tensor, Tensor, Tensor]] = []
        for batch in source.minibatches(self):
            if self.net.noisy:
                self.net.reset_noise()
                self.target.reset_noise()
            output, slope, error, value = self.predict_return(batch)
            self.update(0, output, slope * batch.weight / len(error))
            source.update_priorities(batch.index, error)
            predictions.append((error, batch.weight, value))
            if self.counts.updates % self.target_update_every == 0:
                self.move_target()
        self.log_with_step({"epsilon": self.epsilon})
        if not predictions:
            return {}
        error, weight, value = (torch.stack(column) for column in zip(*predictions, strict=True))
        return {"loss": (weight * self.loss(error)).mean(), "q_mean": value.mean()}

    def predict_return(self, batch: Transitions) -> Prediction:
        """Compare what the network says of the actions taken with what came of them."""
        return self._values(batch) if self.net.atoms == 1 else self._distributions(batch)

    def loss(self, error: Tensor) -> Tensor:
        """Huber's of the values' errors; a distribution's error is its loss already."""
        return F.huber_loss(error, torch.zeros_like(error), reduction="none") if self.net.atoms == 1 else error

    def _values(self, batch: Transitions) -> Prediction:
        q = self.net(batch.observation).gather(1, batch.action[:, None]).view(-1)  # (B,)
        with torch.no_grad():
            next_q = self.target(batch.next_observation)  # (B, K)
            if self.is_double:
                best = self.net(batch.next_observation).argmax(dim=1, keepdim=True)
                next_value = next_q.gather(1, best)[:, 0]  # (B,)
            else:
                next_value = next_q.amax(dim=1)
            value = q.detach()
            error = value - torch.addcmul(batch.reward, batch.discount, next_value)
        return Prediction(q, error.clamp(-1, 1), error, value)  # the slope of Huber's loss is the error, clipped

    def _distributions(self, batch: Transitions) -> Prediction:
        row = torch.arange(len(batch.action), device=batch.action.device)
        logits = self.net.outputs(batch.observation)[row, batch.action]  # (B, A)
        with torch.no_grad():
            next_logits = self.target.outputs(batch.next_observation)  # (B, K, A)
            chooser = self.net.outputs(batch.next_observation) if self.is_double else next_logits
            best = self.net.values(chooser).argmax(dim=1)
            next_p = next_logits[row, best].softmax(dim=-1)  # (B, A)
            target_p = categorical_projection(next_p, batch.reward, batch.discount, self.net.support)
        divergence = categorical_divergence(target_p, logits.log_softmax(dim=-1))
        error = divergence.detach()
        return Prediction(divergence, torch.ones_like(error), error, self.net.values(logits.detach()))

    @torch.no_grad()
    def move_target(self) -> None:
        """``target = (1 - tau) * target + tau * net``."""
        target, online = ([p.data for p in net.parameters()] for net in (self.target, self.net))
        if self.tau == 1:
            torch._foreach_copy_(target, online)
        else:
            torch._foreach_lerp_(target, online, self.tau)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Of Q alone: the target follows it."""
        parameters = trained(self.net.parameters())
        optimizer = self.optimizer(parameters) if self.optimizer else torch.optim.Adam(parameters, lr=1e-4, fused=True)
        return [self._scheduled(optimizer)]
