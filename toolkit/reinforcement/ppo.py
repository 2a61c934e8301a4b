"""Proximal policy optimisation.

Shape legend: T time steps, N environments, B steps of a minibatch, S an observation's shape, A action dimensions,
L states of LSTMs, H units.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from toolkit.errors import UserError
from toolkit.experience import PolicyStep, Rollout, RolloutSource
from toolkit.losses.clipped_surrogate import approximate_kl, clipped_surrogate_loss, clipped_value_loss
from toolkit.nn.running_normalizer import RunningNormalizer
from toolkit.reinforcement.advantage import generalized_advantage
from toolkit.reinforcement.minibatches import Minibatch, minibatches_of_sequences, minibatches_of_steps
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.reinforcement_task import ReinforcementTask, trained
from toolkit.task import SchedulerConfig


@dataclass(frozen=True)
class Normalization:
    """What is brought to a common scale, by statistics that are in the checkpoint.

    Args:
        advantage: To mean 0 and standard deviation 1 within each minibatch of a rank.
        observation: By the mean and standard deviation of all observations before this item, and clipped to +-10.
        reward: By the standard deviation of discounted returns so far, and clipped to +-10.
    """

    advantage: bool = True
    observation: bool = False
    reward: bool = False


class PPO(ReinforcementTask):
    """Collect a rollout, then several passes over it, in each of which the policy is kept near the one that collected.

    Schulman et al., "Proximal Policy Optimization Algorithms", 2017, arXiv:1707.06347; details that decide whether it
    works: Huang et al., "The 37 Implementation Details of Proximal Policy Optimization", ICLR blog track, 2022.

    Continuous actions are drawn from a Gaussian in units in which the bounds are -1 and 1. It is not bounded: what lies
    outside is clipped on its way to the environment, and the policy learns from what it drew.

    A recurrent policy (``net.init_args.lstm``) learns from whole sequences: minibatches divide the environments and not
    the time, and a rollout begins with the memory that the last one ended with.

    Args:
        net: Actor and critic.
        gamma: Discount of a time step.
        gae_lambda: See `toolkit.reinforcement.advantage.generalized_advantage`.
        epochs: Passes over a rollout.
        minibatches: Updates in each pass.
        clip_range: How far the probability of an action may move before the loss stops pushing it, as a share.
        clip_range_value: Likewise the value, in its own units; not clipped if None.
        decay_clip_range: Whether ``clip_range`` falls in a straight line to 0 at the end of the run.
        entropy_weight: Of the policy's entropy, which is to stay large.
        value_weight: Of the squared error of the value function.
        target_kl: An item's updates end when the policy has moved farther than this from the one that collected.
        normalization: Of advantages only if None.
        observation_shape: S, of the data.
        num_actions: Of the data.
        action_low: Of the data.
        action_high: Of the data.
        total_steps: Of the data.
        optimizer: Adam with learning rate 3e-4 and epsilon 1e-5 if None.
        scheduler: Constant if None.
        scheduler_config: When the scheduler steps; a step is an item.
        gradient_clip_val: Largest norm of the gradient.

    Raises:
        UserError: An argument is outside its range; a rollout is smaller than the number of minibatches.
    """

    net: ActorCritic
    source = RolloutSource

    def __init__(
        self,
        net: ActorCritic,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        epochs: int = 10,
        minibatches: int = 32,
        clip_range: float = 0.2,
        clip_range_value: float | None = None,
        decay_clip_range: bool = False,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        target_kl: float | None = None,
        normalization: Normalization | None = None,
        observation_shape: Sequence[int] | None = None,
        num_actions: int | None = None,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        total_steps: int | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        gradient_clip_val: float | None = 0.5,
    ) -> None:
        _check(gae_lambda, epochs, minibatches, clip_range, clip_range_value, target_kl)
        normalization = normalization or Normalization()
        if normalization.observation and observation_shape is None:
            raise UserError("PPO: normalization.observation needs observation_shape.")
        super().__init__(
            net,
            gamma=gamma,
            num_actions=num_actions,
            action_low=action_low,
            action_high=action_high,
            total_steps=total_steps,
            scalars=(
                "loss",
                "policy_loss",
                "value_loss",
                "entropy",
                "approx_kl",
                "clip_fraction",
                "explained_variance",
            ),
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_config=scheduler_config,
            gradient_clip_val=gradient_clip_val,
        )
        self.gae_lambda = gae_lambda
        self.epochs = epochs
        self.minibatches = minibatches
        self.clip_range = clip_range
        self.clip_range_value = clip_range_value
        self.decay_clip_range = decay_clip_range
        self.entropy_weight = entropy_weight
        self.value_weight = value_weight
        self.target_kl = target_kl
        self.normalize_advantage = normalization.advantage
        self.observations = RunningNormalizer(observation_shape or ()) if normalization.observation else None
        self.returns = RunningNormalizer(()) if normalization.reward else None
        self._memory: Tensor | None = None
        """``(L, N, H)``, of a recurrent policy, behind the last action; an attribute, for it is a rank's own."""

    @property
    def schedule(self) -> str | None:
        """The clip range may fall."""
        return "decay_clip_range" if self.decay_clip_range else None

    # Acting -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """Draw actions."""
        parameters, value = self._look(observation, start)
        policy = self.net.policy(parameters)
        action = policy.sample()
        return PolicyStep(action, policy.log_prob(action), value)

    @torch.no_grad()
    def greedy(self, observation: Tensor, start: Tensor) -> Tensor:
        """The most probable actions."""
        parameters, _ = self._look(observation, start)
        return self.net.policy(parameters).mode()

    @torch.no_grad()
    def value(self, observation: Tensor) -> Tensor:
        """What is expected after the last action."""
        memory = self._memory
        _, value = self._look(observation, torch.zeros(len(observation), dtype=torch.bool, device=self.device))
        self._memory = memory
        return value

    def environment_action(self, action: Tensor) -> Tensor:
        """Continuous actions are clipped to [-1, 1], then brought to the bounds."""
        return super().environment_action(action if self.num_actions is not None else action.clamp(-1, 1))

    def _look(self, observation: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's parameters and the value; moves the memory."""
        observation = self._normalized(observation)
        if not self.net.is_recurrent:
            parameters, value, _ = self.net(observation)
            return parameters, value
        memory = self._memory_of(self._memory, len(observation))
        parameters, value, self._memory = self.net(observation[None], memory, start[None])
        return parameters[0], value[0]

    def _memory_of(self, memory: Tensor | None, count: int) -> Tensor:
        """``(L, count, H)``; empty at first, and after a resume with another number of environments, which are new."""
        return self.net.initial_memory(count) if memory is None or memory.shape[1] != count else memory

    def _normalized(self, observation: Tensor) -> Tensor:
        return observation if self.observations is None else self.observations(observation)

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        """Evaluation begins without a memory, and leaves that of the training alone."""
        memory, self._memory = self._memory, None
        try:
            yield
        finally:
            self._memory = memory

    # Learning ---------------------------------------------------------------------------------------------------------

    def learn(self, source: RolloutSource) -> dict[str, Tensor]:
        """One iteration of the paper's algorithm 1."""
        clip_range = self.clip_range * (1 - self.progress if self.decay_clip_range else 1)
        memory = self._memory
        rollout = source.collect(self)
        advantage, target = self._advantage_and_target(rollout)
        losses, log_ratios = [], []
        for minibatch in self._minibatches(rollout, advantage, target, memory):
            parameters, value, _ = self.net(minibatch.observation, minibatch.memory, minibatch.start)
            if minibatch.valid is not None:
                parameters, value = parameters[minibatch.valid], value[minibatch.valid]
            policy = self.net.policy(parameters)
            log_ratio = policy.log_prob(minibatch.action) - minibatch.log_probability  # (B,)
            if self.target_kl is not None and self._kl_of_all_ranks(log_ratio) > self.target_kl:
                break
            policy_loss = clipped_surrogate_loss(log_ratio, minibatch.advantage, clip_range)
            value_loss = clipped_value_loss(value, minibatch.value, minibatch.target, self.clip_range_value)
            entropy = policy.entropy().mean()
            loss = policy_loss + self.value_weight * value_loss
            if self.entropy_weight:
                loss = loss - self.entropy_weight * entropy
            self.update(0, loss)
            losses.append(torch.stack([loss, policy_loss, value_loss, entropy]).detach())
            log_ratios.append(log_ratio.detach())
        if self.observations is not None:  # not before: all updates are to see what the policy saw when it acted
            self.observations.update(rollout.observation[rollout.valid])
        return self._values(losses, log_ratios, clip_range, rollout, target)

    def _advantage_and_target(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """``(T, N)`` each."""
        reward = rollout.reward
        if self.returns is not None:
            self.returns.update(rollout.discounted_return[rollout.valid])
            reward = self.returns.scale(reward)
        values, ends = (rollout.value, rollout.next_value), (rollout.terminated, rollout.truncated)
        advantage = generalized_advantage(reward, *values, *ends, self.gamma, self.gae_lambda)
        return advantage, advantage + rollout.value

    def _minibatches(
        self, rollout: Rollout, advantage: Tensor, target: Tensor, memory: Tensor | None
    ) -> Iterator[Minibatch]:
        """Those of all passes."""
        rollout = rollout._replace(observation=self._normalized(rollout.observation))
        given = (rollout, advantage, target, self.minibatches, self.epochs, self.normalize_advantage)
        if not self.net.is_recurrent:
            return minibatches_of_steps(*given)
        return minibatches_of_sequences(*given, self._memory_of(memory, rollout.start.shape[1]))

    def _kl_of_all_ranks(self, log_ratio: Tensor) -> float:
        """The same on each, so that all stop at once."""
        return float(self.trainer.strategy.reduce(approximate_kl(log_ratio.detach()), reduce_op="mean"))

    def _values(
        self, losses: list[Tensor], log_ratios: list[Tensor], clip_range: float, rollout: Rollout, target: Tensor
    ) -> dict[str, Tensor]:
        """For the log; of an item at once, and not of each update, for each small operation costs as much."""
        if not losses:
            return {}
        loss, policy_loss, value_loss, entropy = torch.stack(losses).mean(dim=0).unbind()
        log_ratio = torch.cat(log_ratios)
        value, target = rollout.value[rollout.valid], target[rollout.valid]
        variance = target.var(correction=0)
        explained = 1 - (target - value).var(correction=0) / variance
        return {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": approximate_kl(log_ratio),
            "clip_fraction": (log_ratio.expm1().abs() > clip_range).to(loss.dtype).mean(),
            "explained_variance": explained.where(variance > 0, torch.zeros_like(explained)),
        }

    # Around the training ----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One for actor and critic."""
        parameters = trained(self.net.parameters())
        optimizer = self.optimizer(parameters) if self.optimizer else torch.optim.Adam(parameters, lr=3e-4, eps=1e-5)
        scheduled = self._scheduled(optimizer)
        return scheduled if "lr_scheduler" in scheduled else optimizer

    def on_fit_start(self) -> None:
        """Begin without a memory, unless it is that of a checkpoint, which was read before the network moved."""
        super().on_fit_start()
        if self.trainer.ckpt_path is None:
            self._memory = None
        if self._memory is not None:
            self._memory = self._memory.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the memory of each rank's environments, ``(ranks, L, N, H)``."""
        super().on_save_checkpoint(checkpoint)
        if self._memory is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            memories: Any = self.all_gather(self._memory)
            checkpoint["policy_memory"] = memories.reshape(-1, *self._memory.shape).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Each rank takes its own memory; on another number of ranks, where all episodes begin anew, none."""
        super().on_load_checkpoint(checkpoint)
        memories = checkpoint.get("policy_memory")
        self._memory = None
        if self._trainer is None or self.trainer.state.fn != "fit" or memories is None:
            return
        if len(memories) == self.trainer.world_size:
            self._memory = memories[self.trainer.global_rank]


def _check(
    gae_lambda: float,
    epochs: int,
    minibatches: int,
    clip_range: float,
    clip_range_value: float | None,
    target_kl: float | None,
) -> None:
    if not 0 <= gae_lambda <= 1:
        raise UserError(f"model.init_args.gae_lambda: need a number in [0, 1], got {gae_lambda}.")
    for name, count in (("epochs", epochs), ("minibatches", minibatches)):
        if count < 1:
            raise UserError(f"model.init_args.{name}: need at least 1, got {count}.")
    for name, size in (("clip_range", clip_range), ("clip_range_value", clip_range_value), ("target_kl", target_kl)):
        if size is not None and size <= 0:
            raise UserError(f"model.init_args.{name}: need a number above 0, got {size}.")
