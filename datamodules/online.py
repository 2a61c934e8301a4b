"""Steps that are learned from one by one: what tabular agents read."""

from collections.abc import Iterator
from pathlib import Path

import torch

from datamodules.experience import Experience
from toolkit.errors import UserError
from toolkit.experience import OnlineSource, Policy, VectorStep


class Online(Experience, OnlineSource):
    """All environments step; the policy learns from that; then they step again.

    Args:
        steps: Steps of the vector environment in one item of the stream: how much is done between two looks of the
            Trainer, which take about as long as ten steps.

    Raises:
        UserError: ``steps`` is not positive.
    """

    def __init__(self, steps: int = 250) -> None:
        if steps < 1:
            raise UserError(f"data.init_args.experience.steps: need at least 1, got {steps}.")
        self.number = steps

    def steps_per_item(self, num_envs: int) -> int:
        """Those of the vector environment times N."""
        return self.number * num_envs

    def _begin(self, gamma: float, folder: Path) -> None:
        """Nothing is kept."""

    def steps(self, policy: Policy) -> Iterator[VectorStep]:
        """Step, and wait until that was learned from."""
        device = policy.device
        for _ in range(self.number):
            action = policy.act(*self._observed(policy)).action
            step = self.adapter.step(policy.environment_action(action).cpu().numpy())
            policy.count_steps(self.adapter.num_envs)
            before, reward, after = map(torch.from_numpy, (step.observation, step.reward, step.next_observation))
            flags = (torch.from_numpy(flag.copy()) for flag in (step.terminated, step.truncated, step.valid))
            yield VectorStep(
                before.to(device),
                action,
                reward.float().to(device),
                after.to(device),
                *(flag.to(device) for flag in flags),
            )
