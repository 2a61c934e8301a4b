"""One step of an agent's optimizer against torch's own way to it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.ppo import PPO


class Awkward(nn.Module):
    """Gradients with stride 0, in another order than the weights, and one tensor for two of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.summed, self.turned = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(3, 6))
        self.one, self.other = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))

    def loss(self) -> Tensor:
        target = torch.arange(18.0).view(6, 3)
        return self.summed.sum() + (self.turned.t() * target).sum() + ((self.one + self.other) * target[:, 0]).sum()


@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
@pytest.mark.parametrize("fused", [False, True])
def test_is_backward_clip_and_step(clip: float | None, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, reference = Awkward(), Awkward()

    class Alone:
        optimizers = (torch.optim.SGD(net.parameters(), lr=0.1, fused=fused),)
        world_size = 1

    monkeypatch.setattr(PPO, "trainer", Alone())
    task: Any = PPO(ActorCritic((1,), num_actions=2), num_actions=2, gradient_clip_val=clip)
    task.update(0, net.loss())
    reference.loss().backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(reference.parameters(), clip)
    torch.optim.SGD(reference.parameters(), lr=0.1).step()
    for given, expected in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(given, expected)
    assert task.counts.updates == 1
