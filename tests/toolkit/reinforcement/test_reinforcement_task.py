from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cli import main
from tests.conformance import CASES, agent
from toolkit.errors import UserError
from toolkit.manual_task import ManualTask
from toolkit.reinforcement.dqn import DQN
from toolkit.reinforcement.exploration import Exploration
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.q_network import QNetwork
from toolkit.reinforcement.networks.soft_actor_critic import SoftActorCritic
from toolkit.reinforcement.networks.squashed_gaussian_actor import StateDependentExploration
from toolkit.reinforcement.ppo import PPO, Normalization
from toolkit.reinforcement.reinforcement_task import ReinforcementTask
from toolkit.reinforcement.sac import SAC
from toolkit.reinforcement.sarsa import SARSA
from toolkit.reinforcement.tabular import LearningRate

QUICK = ("--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--wandb.enabled=false")
WARM = ("--data.experience.warmup_steps=10",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (agent("DQN", "QNetwork", "CartPole-v1", "Rollouts"), "DQN learns from Replay, got Rollouts; write class_path: Replay"),
        (agent("PPO", "ActorCritic", "CartPole-v1", "Replay", *WARM), "PPO learns from Rollouts, got Replay; write class_path: Rollouts"),
        (agent("QLearning", "ActionTable", "FrozenLake-v1", "Replay", *WARM), "QLearning learns from Online, got Replay"),
        (agent("SAC", "SoftActorCritic", "CartPole-v1", "Replay", "--model.net.action_dim=1"), "environment's are discrete; take DQN or PPO"),
        (agent("DQN", "QNetwork", "Pendulum-v1", "Replay", "--model.net.num_actions=2"), "environment's are continuous; take PPO or SAC"),
        ((*CASES[DQN].arguments, "--trainer.precision=64-true"), "environments speak 32 bits"),
        ((*CASES[DQN].arguments, "--trainer.precision=bf16-true"), "environments speak 32 bits"),
        ((*CASES[DQN].arguments, "--model.optimizer=Adam", "--model.optimizer.lr=1e30"), "training diverged"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_told(
    words: tuple[str, ...], message: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *words, *QUICK])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_discount_is_a_share() -> None:
    with pytest.raises(UserError, match=r"gamma: need a discount in \[0, 1\], got 1.5"):
        DQN(QNetwork((4,), 2), gamma=1.5, num_actions=2, total_steps=10)


BOX = {"action_low": [-2.0], "action_high": [2.0], "total_steps": 10}
DISCRETE = {"num_actions": 2, "total_steps": 10}
AGENTS: list[Callable[[], ReinforcementTask]] = [
    lambda: DQN(QNetwork((3,), 2, encoder=MLPEncoder([8])), **DISCRETE),
    lambda: SAC(SoftActorCritic((3,), 1, MLPEncoder([8]), [8]), **BOX),
    lambda: SAC(SoftActorCritic((3,), 1, MLPEncoder([8]), [8], exploration=StateDependentExploration()), **BOX),
    lambda: PPO(ActorCritic((3,), 2), observation_shape=(3,), normalization=Normalization(observation=True), **DISCRETE),
    lambda: PPO(ActorCritic((3,), action_dim=1, lstm=4), **BOX),
]  # fmt: skip


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_sixteen_bits_and_integers(make: Callable[[], ReinforcementTask], dtype: torch.dtype) -> None:
    """Networks compute in bfloat16, environments do not; a flattened state is a row of integers."""
    agent, observation, start = make(), torch.eye(3).to(dtype), torch.tensor([True, False, True])
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):  # the second time with a memory
            explored = agent.act(observation, start).action
            greedy = agent.greedy(observation, start)
    for action in (explored, greedy):
        told = agent.environment_action(action).detach().numpy()
        assert len(told) == 3
        assert told.dtype == (np.int64 if agent.num_actions else np.float32)


@pytest.mark.parametrize(
    ("task", "follows"),
    [
        (DQN(QNetwork((3,), 2), num_actions=2), "exploration"),
        (DQN(QNetwork((3,), 2), exploration=Exploration(0.1, 0.1), num_actions=2), None),
        (DQN(QNetwork((3,), 2, noisy=True), num_actions=2), None),
        (PPO(ActorCritic((3,), 2), num_actions=2, decay_clip_range=True), "decay_clip_range"),
        (PPO(ActorCritic((3,), 2), num_actions=2), None),
        (SARSA(ActionTable(3, 2), num_actions=2), "exploration"),
        (SARSA(ActionTable(3, 2), LearningRate(end=0.0), Exploration(0.1, 0.1), num_actions=2), "learning_rate"),
        (SARSA(ActionTable(3, 2), exploration=Exploration(0.1, 0.1), num_actions=2), None),
    ],
)
def test_what_follows_the_run_needs_its_length(
    task: ReinforcementTask, follows: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task.schedule == follows
    if follows is not None:
        monkeypatch.setattr(ManualTask, "on_fit_start", lambda self: None)
        with pytest.raises(
            UserError, match=f"total_steps: {follows} follows the run's environment steps; say how many"
        ):
            task.on_fit_start()


def test_a_minibatch_has_no_parts() -> None:
    class Parts(DQN):
        def __init__(self) -> None:
            ReinforcementTask.__init__(self, QNetwork((3,), 2), num_actions=2, accumulate=2)

    with pytest.raises(UserError, match="accumulate: an agent's update is one minibatch, got 2 parts"):
        Parts()


def test_a_run_ends_with_its_budget_and_goes_no_further(workdir: Path) -> None:
    """400 steps are 20 items of 20, in epochs of 4 items; a resumed run that is over adds nothing."""
    words = [
        "fit",
        *CASES[DQN].arguments,
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=-1",
        "--wandb.enabled=false",
    ]
    made = main(words)
    assert int(made.model.env_steps) == 400
    assert (made.trainer.global_step, made.trainer.current_epoch) == (20, 5)
    again = main(["resume", str(made.run_folder)])
    assert int(again.model.env_steps) == 400


def test_a_fit_from_the_best_checkpoint_says_that_it_begins_without_a_memory(workdir: Path) -> None:
    words = [
        "fit",
        *CASES[DQN].arguments,
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        "--wandb.enabled=false",
    ]
    best = main(words).run_folder / "checkpoints" / "best.ckpt"
    words[words.index("--trainer.max_epochs=1")] = "--trainer.max_epochs=2"
    with pytest.warns(UserWarning, match=r"experience: .*best.ckpt holds none, .* from its last.ckpt"):
        main([*words, f"--ckpt_path={best}"])


class PartlyUsed(QNetwork):
    """With a layer that nothing comes through."""

    def __init__(self, observation_shape: Sequence[int], num_actions: int) -> None:
        super().__init__(observation_shape, num_actions, encoder=MLPEncoder([8]))
        self.unused = nn.Linear(2, 2)


def test_a_layer_without_use_gets_no_gradient(workdir: Path) -> None:
    words = [word for word in CASES[DQN].arguments if not word.startswith("--model.net")]
    module = PartlyUsed.__module__
    words += [f"--model.net={module}.PartlyUsed", "--allow=tests", "--model.gradient_clip_val=0.001"]
    made = main(["fit", *words, *QUICK])
    (optimizer,) = made.trainer.optimizers
    moved = {name for name, parameter in made.model.net.named_parameters() if parameter in optimizer.state}
    assert moved == {name for name, _ in made.model.net.named_parameters() if not name.startswith("unused")}


@pytest.mark.parametrize(("task_class", "part"), [(DQN, "encoder"), (PPO, "encoder"), (SAC, "actor.encoder")])
def test_what_is_frozen_stays(task_class: type[ReinforcementTask], part: str, workdir: Path) -> None:
    words = ["--trainer.callbacks+=Freeze", f"--trainer.callbacks.names=[{part}]"]
    made = main(["fit", *CASES[task_class].arguments, *QUICK, *words])
    frozen = [p for name, p in made.model.net.named_parameters() if name.startswith(part)]
    assert frozen
    assert not any(parameter.requires_grad for parameter in frozen)
    stepped = [p for optimizer in made.trainer.optimizers for p in optimizer.state]
    assert stepped
    assert not any(one is other for one in stepped for other in frozen)
