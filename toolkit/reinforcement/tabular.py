"""What agents share that keep a table of action values. Shape legend: N environments, S states, K actions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from toolkit.errors import UserError
from toolkit.experience import OnlineSource, PolicyStep, VectorStep
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.reinforcement_task import ReinforcementTask


@dataclass(frozen=True)
class LearningRate:
    """How far a value moves towards its target, ``alpha``.

    ``alpha = (start + (end - start) progress) / visits(s, a) ** exponent``, where ``progress`` is the share of the run
    that is done. Q-learning converges with exponents in (1/2, 1], and sooner with those below 1 (Even-Dar and Mansour,
    "Learning Rates for Q-Learning", JMLR, 2003).

    Args:
        start: At the beginning of the run, in (0, 1].
        end: At its end, in [0, 1]; as at the beginning if None.
        exponent: Of the number of visits, in [0, 1]; 0 for all visits alike.

    Raises:
        UserError: A number is outside its range.
    """

    start: float = 0.1
    end: float | None = None
    exponent: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.start <= 1 and 0 <= self.exponent <= 1 and (self.end is None or 0 <= self.end <= 1)):
            raise UserError(
                "model.init_args.learning_rate: need start in (0, 1], end in [0, 1] and exponent in [0, 1], got "
                f"{self.start}, {self.end} and {self.exponent}."
            )

    def base(self, progress: float) -> float:
        """Of a first visit."""
        end = self.start if self.end is None else self.end
        return self.start + (end - self.start) * progress


class TabularTask(ReinforcementTask, ABC):
    r"""A table ``Q`` that follows its targets, after every step of N environments.

    After a step from ``s`` with ``a`` to ``s'``, with reward ``r``,

    .. math::
        Q(s, a) \leftarrow Q(s, a) + \alpha \left[ r + \gamma V(s') - Q(s, a) \right],

    where an algorithm says what ``V(s')`` is; 0 after a termination, but not where an episode was only cut.

    N environments, of all ranks together, step at once and share the table. Where n of them leave the same state by the
    same action, that value moves by ``1 - (1 - alpha)^n`` times the mean of their errors: as far as n updates one after
    the other would move it, averaged over their orders, with targets from before the step. So no order matters, and N
    environments learn from a step as much as one does.

    There is no gradient and no optimizer. The one that the Trainer is given never steps: it is there because training
    steps are counted by it.

    Args:
        net: The table.
        learning_rate: ``alpha``.
        exploration: Share of random actions.
        gamma: Discount of a time step.
        num_actions: K.
        total_steps: Environment steps of the whole run.

    Raises:
        UserError: The actions are not numbered, or ``gamma`` is not in [0, 1].
    """

    net: ActionTable
    source = OnlineSource
    actions = ("discrete",)

    visits: Tensor
    """``(S, K)``, int64, how often each action was taken in each state."""

    def __init__(
        self,
        net: ActionTable,
        learning_rate: LearningRate | None = None,
        exploration: Exploration | None = None,
        gamma: float = 0.99,
        num_actions: int | None = None,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(
            net,
            gamma=gamma,
            num_actions=num_actions,
            total_steps=total_steps,
            scalars=("td_error",),
        )
        self.learning_rate = learning_rate or LearningRate()
        self.exploration = exploration or Exploration()
        self.register_buffer("visits", torch.zeros_like(net.value, dtype=torch.int64))

    @property
    def schedule(self) -> str | None:
        """Epsilon falls, and the learning rate may."""
        rate = self.learning_rate
        if not self.exploration.is_constant:
            return "exploration"
        return None if rate.end in (None, rate.start) else "learning_rate"

    @abstractmethod
    def next_value(self, step: VectorStep) -> Tensor:
        """``V(s')``, ``(N,)``: what the episode is worth from ``step.next_observation`` on."""

    # Acting -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, start: Tensor) -> PolicyStep:
        """Epsilon-greedy."""
        return PolicyStep(self.epsilon_greedy(observation))

    @torch.no_grad()
    def epsilon_greedy(self, observation: Tensor) -> Tensor:
        """Any action with probability epsilon, else one of the best, all of these alike: ``(N,)`` to ``(N,)``."""
        value = self.net(observation)  # (N, K)
        draw = torch.rand(len(value), value.shape[1] + 1, device=value.device)
        blind = draw[:, :1] < self.exploration.epsilon(self.progress)
        allowed = blind | (value == value.amax(dim=1, keepdim=True))
        return torch.where(allowed, draw[:, 1:], -1.0).argmax(dim=1)

    @torch.no_grad()
    def greedy(self, observation: Tensor, start: Tensor) -> Tensor:
        """The first of the best actions."""
        action: Tensor = self.net(observation).argmax(dim=1)
        return action

    # Learning ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def learn(self, source: OnlineSource) -> dict[str, Tensor]:
        """Step and update in turns."""
        errors = []
        for step in source.steps(self):
            value = self.next_value(step).masked_fill(step.terminated, 0.0)
            errors.append(self.move_values(step, step.reward + self.gamma * value))
        self.counts.updates += len(errors)
        error = torch.cat(errors)
        self.trainer.optimizers[0].param_groups[0]["lr"] = self.learning_rate.base(self.progress)  # for the log
        visited = float((self.visits > 0).float().mean())
        self.log_with_step({"epsilon": self.exploration.epsilon(self.progress), "visited": visited})
        return {"td_error": error.abs().mean()} if len(error) else {}

    @torch.no_grad()
    def move_values(self, step: VectorStep, target: Tensor) -> Tensor:
        """Move the values of what was done towards their targets.

        Args:
            step: Of N environments.
            target: ``(N,)``.

        Returns:
            The errors of the valid steps, of all ranks: at most ``(ranks N,)``.
        """
        q, visits = self.net.value.view(-1), self.visits.view(-1)  # (S * K,)
        taken, target = self._valid_of_all_ranks(
            step.observation * self.net.value.shape[1] + step.action, target, step.valid
        )
        error = target - q[taken]
        pair, place, n = torch.unique(taken, return_inverse=True, return_counts=True)  # (P,), (N,), (P,)
        mean_error = torch.zeros_like(q[pair]).index_add_(0, place, error) / n
        visits.index_add_(0, pair, n)
        alpha = self.learning_rate.base(self.progress) / visits[pair] ** self.learning_rate.exponent
        q.index_add_(0, pair, (1 - (1 - alpha) ** n) * mean_error)
        return error

    def _valid_of_all_ranks(self, taken: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Each rank then makes the same update, so that their tables stay equal."""
        if self._trainer is not None and self.trainer.world_size > 1:
            rows = torch.stack([taken.double(), target.double(), valid.double()])  # exact: both fit into 53 bits
            gathered = self.all_gather(rows)  # (ranks, 3, N)
            assert isinstance(gathered, Tensor)
            taken, target, valid = gathered.transpose(0, 1).flatten(1)
            taken, target, valid = taken.long(), target.to(self.net.value.dtype), valid.bool()
        return taken[valid], target[valid]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One that the Trainer counts training steps by."""
        return torch.optim.SGD(self.net.parameters(), lr=self.learning_rate.start)
