from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch import nn

from callbacks.environment_budget import EnvironmentBudget
from callbacks.episode_video import EpisodeVideo
from toolkit.errors import UserError
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.ppo import PPO
from toolkit.reinforcement.reinforcement_task import Counts
from toolkit.vision.image_classification import ImageClassification


@pytest.mark.parametrize("callback", [EnvironmentBudget(), EpisodeVideo()])
def test_other_tasks_are_refused(callback: EnvironmentBudget | EpisodeVideo) -> None:
    task = ImageClassification(nn.Identity(), num_classes=2)
    with pytest.raises(UserError, match=r"got ImageClassification; remove it from trainer\.callbacks"):
        callback.setup(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), task, "fit")


def test_the_data_s_budget_counts_where_the_task_knows_none() -> None:
    task = PPO(ActorCritic((3,), 2), num_actions=2)
    trainer: Any = SimpleNamespace(should_stop=False, datamodule=SimpleNamespace(total_steps=256))
    for steps, is_over in ((255, False), (256, True)):
        task.counts = Counts(steps)
        EnvironmentBudget().on_train_batch_end(trainer, task)
        assert trainer.should_stop is is_over


def test_how_often_is_positive() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        EpisodeVideo(every_n_epochs=0)
