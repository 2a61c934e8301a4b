"""What all agents share: acting, counting, updating, evaluating. Shape legend: N environments, S an observation."""

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision
from torch import Tensor, nn
from torchmetrics import MaxMetric, MetricCollection, MinMetric

from toolkit.errors import UserError
from toolkit.experience import Episodes, EvaluationSource, ExperienceSource, PolicyStep
from toolkit.global_mean import parameters_of
from toolkit.manual_task import ManualTask
from toolkit.types import Stage, StepOutput

EPISODES = ("return_mean", "length_mean")


def trained(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that are not frozen."""
    return [parameter for parameter in parameters if parameter.requires_grad]


@dataclass(slots=True)
class Counts:
    """``env_steps`` and ``grad_updates`` as Python numbers, which the buffers follow after each item.

    A tensor takes microseconds to count, and so does a number that is itself an attribute of a module.
    """

    steps: int = 0
    updates: int = 0


class ReinforcementTask(ManualTask, ABC):
    """An agent: a policy that collects its own data, and how it learns from them.

    A training step is one item of the DataModule's experience stream: many environment steps, and many updates. So
    schedules and exploration read ``counts``, environment steps over all ranks and updates, and never
    ``trainer.global_step``. An algorithm implements `act` (explore), `greedy` (what it has learned) and `learn` (from
    one item to its losses, by `update`; one that learns otherwise counts ``counts.updates`` itself).

    `update` does not go through Lightning's optimizer wrapper: an update of a small network takes a third of a
    millisecond, and the wrapper's hooks as long again. It takes the gradients of the one optimizer's parameters alone,
    averages them over the ranks, clips them, and steps.

    Args:
        net: The networks.
        gamma: Discount of a time step.
        num_actions: K of a discrete action space.
        action_low: Of a continuous action space, the least action, ``(A,)``.
        action_high: The largest.
        total_steps: Environment steps of the whole run, over all ranks: the horizon of schedules and exploration.
        scalars: What `learn` gives, for the log.
        **options: Of `ManualTask`, but for ``accumulate``.

    Raises:
        UserError: ``gamma`` is not in [0, 1]; the action space is not one the algorithm knows; at a fit's start,
            something follows the run's steps, and their number is not known.
    """

    monitor = "val/return_mean"
    mode = "max"
    is_mean_over_samples = False
    source: ClassVar[type[ExperienceSource]]
    """What the algorithm learns from: a `RolloutSource`, a `ReplaySource` or an `OnlineSource`."""
    actions: ClassVar[tuple[Literal["discrete", "continuous"], ...]] = ("discrete", "continuous")
    """The action spaces that it knows."""

    env_steps: Tensor
    grad_updates: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        gamma: float = 0.99,
        num_actions: int | None = None,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        total_steps: int | None = None,
        scalars: Sequence[str] = ("loss",),
        **options: Any,
    ) -> None:
        if not 0 <= gamma <= 1:
            raise UserError(f"model.init_args.gamma: need a discount in [0, 1], got {gamma}.")
        if options.get("accumulate", 1) != 1:
            raise UserError(
                f"model.init_args.accumulate: an agent's update is one minibatch, got {options['accumulate']} parts; "
                "leave it out, and write a smaller data.init_args.experience.batch_size, or more minibatches of PPO."
            )
        metrics = MetricCollection({"return_min": MinMetric(), "return_max": MaxMetric()}, compute_groups=False)
        super().__init__(net, metrics=metrics, scalars=(*scalars, *EPISODES), evaluation_scalars=EPISODES, **options)
        kind: Literal["discrete", "continuous"] = "discrete" if num_actions is not None else "continuous"
        if kind not in self.actions:
            raise UserError(
                f"model: {type(self).__name__} chooses {self.actions[0]} actions, and the environment's are {kind}; "
                f"take {'DQN or PPO' if kind == 'discrete' else 'PPO or SAC'}."
            )
        if kind == "continuous" and (action_low is None or action_high is None):
            raise UserError(f"model: {type(self).__name__} needs num_actions, or action_low and action_high.")
        self.gamma = gamma
        self.num_actions = num_actions
        self.total_steps = total_steps
        self.register_buffer("env_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("grad_updates", torch.zeros((), dtype=torch.int64))
        if kind == "continuous":
            self.register_buffer("action_low", torch.tensor(action_low), persistent=False)
            self.register_buffer("action_high", torch.tensor(action_high), persistent=False)
        self.counts = Counts()
        self._ranks = 1
        """Of the fit; the Trainer's own word for it is slow to ask at each environment step."""

    # What an algorithm implements -------------------------------------------------------------------------------------

    @abstractmethod
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """Explore; see `toolkit.experience.Policy.act`."""

    @abstractmethod
    def greedy(self, observation: Tensor, start: Tensor) -> Tensor:
        """The best known actions in the policy's units, for ``(N, *S)``; ``start`` as in `act`."""

    @abstractmethod
    def learn(self, source: Any) -> dict[str, Tensor]:
        """Collect from the source, `update`, and say what is logged.

        Returns:
            The mean over the updates of each of the constructor's ``scalars``; empty where no update was due.
        """

    def value(self, observation: Tensor) -> Tensor:
        """See `toolkit.experience.Policy.value`; of algorithms that learn from rollouts."""
        raise NotImplementedError

    # Acting -----------------------------------------------------------------------------------------------------------

    def act_randomly(self, count: int) -> Tensor:
        """Uniform actions, ``(N,)`` or ``(N, A)``, in the policy's units."""
        if self.num_actions is not None:
            return torch.randint(self.num_actions, (count,), device=self.device)
        return torch.rand(count, len(self.action_low), device=self.device) * 2 - 1

    def environment_action(self, action: Tensor) -> Tensor:
        """Discrete as it is; continuous from ``[-1, 1]`` to the bounds."""
        if self.num_actions is not None:
            return action
        return self.action_low + (action + 1) / 2 * (self.action_high - self.action_low)

    def count_steps(self, count: int) -> None:
        """Count environment steps of this rank, and the others' with them, for all ranks step alike."""
        self.counts.steps += count * self._ranks

    @property
    def progress(self) -> float:
        """Share of the run's environment steps that are done, in [0, 1]; 0 where their number is not known."""
        return min(1.0, self.counts.steps / self.total_steps) if self.total_steps else 0.0

    @property
    def schedule(self) -> str | None:
        """What of the algorithm follows `progress`, so that the run's length must be known; None if nothing does."""
        return None

    # Learning ---------------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Refuse what these updates cannot do, or the data that do not suit."""
        super().on_fit_start()
        if self.schedule is not None and not self.total_steps:
            raise UserError(
                f"model.init_args.total_steps: {self.schedule} follows the run's environment steps; say how many."
            )
        self.counts = Counts(int(self.env_steps), int(self.grad_updates))
        self._ranks = self.trainer.world_size
        if self.device.type == "cpu":  # Lightning has torch ask NVML, and each optimizer step asks again: 40 us
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is not None:
            raise UserError(
                "trainer.precision: 16-mixed scales losses, which agents do not; write bf16-mixed or 32-true."
            )
        if isinstance(precision, (DoublePrecision, HalfPrecision)):
            raise UserError("trainer.precision: environments speak 32 bits; write 32-true or bf16-mixed.")
        if self._device_mesh is not None:
            raise UserError("trainer.strategy: an agent's networks are not sharded; write ddp.")
        for optimizer in self.trainer.optimizers:
            optimizer._opt_called = True  # type: ignore[attr-defined]  # schedules move before the first update too

    def step(self, batch: Any, stage: Stage) -> StepOutput:
        """An item of the stream in training; in evaluation episodes, played greedily."""
        if stage != "train":
            return self._evaluate(batch, stage)
        if not isinstance(batch, self.source):
            name = self.source.__name__.removesuffix("Source")
            wanted = "Rollouts" if name == "Rollout" else name
            raise UserError(
                f"data.init_args.experience: {type(self).__name__} learns from {wanted}, got {type(batch).__name__}; "
                f"write class_path: {wanted}."
            )
        values = self.learn(batch)
        self.env_steps.fill_(self.counts.steps)
        self.grad_updates.fill_(self.counts.updates)
        self._check_finite(values)
        self._record_training(values, batch.finished())
        self.log_with_step({"env_steps": self.counts.steps, "grad_updates": self.counts.updates})
        return StepOutput(values.get("loss", torch.zeros((), device=self.device)))

    def _check_finite(self, values: dict[str, Tensor]) -> None:
        if values and not bool(torch.stack([*values.values()]).isfinite().all()):
            raise UserError(
                f"training diverged at {self.counts.steps} environment steps: "
                f"{', '.join(f'{name} {float(value):.4g}' for name, value in values.items())}. The last checkpoint is "
                "good. Lower the learning rate, or clip gradients (model.gradient_clip_val)."
            )

    def _record_training(self, values: dict[str, Tensor], ended: Episodes) -> None:
        """The losses count once an item, if there were updates; the episodes once each."""
        names = self.means("train").names[: -len(EPISODES)]
        zero, one = torch.zeros((), device=self.device), torch.ones((), device=self.device)
        updated = one if values else zero
        number = len(ended.length)
        played = [part.mean().to(self.device) if number else zero for part in (ended.episode_return, ended.length)]
        weights = [updated] * len(names) + [one * number] * len(EPISODES)
        both = {name: values.get(name, zero) for name in names} | dict(zip(EPISODES, played, strict=True))
        self.record("train", weights, **both)

    def update(self, number: int, loss: Tensor, weight: Tensor | None = None) -> None:
        """One step of one optimizer; no other parameter gets a gradient.

        Args:
            number: Which optimizer, in the order of `configure_optimizers`.
            loss: Scalar, or ``(B,)`` with their weights.
            weight: ``(B,)``; the step is along the sum of the losses by these weights. Two nodes less of a graph than
                that sum as a loss.
        """
        optimizer = self.trainer.optimizers[number]
        parameters = trained(parameters_of(optimizer))
        gradients = torch.autograd.grad(loss, parameters, weight, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # torch's fused optimizers read the memory in order, whatever the strides (a sum's gradient has stride 0)
            parameter.grad = None if gradient is None else gradient.contiguous()
        self._average_over_ranks(parameters)
        if self.gradient_clip_val is not None:
            self._clip(parameters, self.gradient_clip_val)
        optimizer.step()
        self.counts.updates += 1

    def _clip(self, parameters: Sequence[Tensor], longest: float) -> None:
        """As torch's own function, which takes twice as long."""
        with_gradient = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        gradients = [gradient for _, gradient in with_gradient]
        norms = torch.stack(torch._foreach_norm(gradients))
        if norms.device.type == "cpu" and math.hypot(*norms.tolist()) <= longest:  # elsewhere to ask would be to wait
            return
        norm = torch.linalg.vector_norm(norms)
        clipped = torch._foreach_div(gradients, (norm / longest).clamp_(min=1))
        for (parameter, _), gradient in zip(with_gradient, clipped, strict=True):  # not in place: two may be one tensor
            parameter.grad = gradient

    def _horizon(self, interval: Literal["step", "epoch"]) -> int:
        """Training steps of the run, which follow from its environment steps."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if interval == "step" and self.total_steps:
            items = -(-self.total_steps // int(data.steps_per_item))
            return max(1, items // self.scheduler_config.frequency)
        return super()._horizon(interval)

    # Evaluation -------------------------------------------------------------------------------------------------------

    def play(self, episodes: EvaluationSource) -> Episodes:
        """Play greedily."""
        with self.evaluating():
            return episodes.play(
                lambda observation, start: self.environment_action(
                    self.greedy(observation.to(self.device), start.to(self.device))
                ).cpu()
            )

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """While `greedy` plays: networks in evaluation mode, no gradients; no generator or memory of training moves."""
        modes = [(module, module.training) for module in self.net.modules()]
        self.net.eval()
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), self._remembering():
                yield
        finally:
            for module, is_training in modes:
                module.training = is_training

    def _remembering(self) -> contextlib.AbstractContextManager[None]:
        """A context in which `greedy` has a memory of its own; of recurrent policies."""
        return contextlib.nullcontext()

    def _evaluate(self, batch: EvaluationSource, stage: Stage) -> StepOutput:
        played = self.play(batch)
        returns, lengths = played.episode_return.to(self.device), played.length.to(self.device)
        self.record(stage, len(returns), return_mean=returns.mean(), length_mean=lengths.mean())
        self.metrics(stage).update(returns)
        return StepOutput(returns.mean(), played)

    def predict_step(self, batch: EvaluationSource, batch_idx: int) -> Episodes:
        """Return and length of each of the test's episodes."""
        return self.play(batch)

    def _log_step(self, values: dict[str, Tensor]) -> None:
        """Without what has no value yet: losses before the first update, returns before an episode has ended."""
        super()._log_step({name: value for name, value in values.items() if not value.isnan()})

    def _log_epoch(self, values: dict[str, Tensor]) -> None:
        """Likewise, and with the environment steps, which are the x axis."""
        known = {name: value for name, value in values.items() if not value.isnan()}
        super()._log_epoch({**known, "env_steps": self.env_steps.float()})
