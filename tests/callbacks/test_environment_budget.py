import pytest
from lightning.pytorch import Trainer
from torch import nn

from callbacks.environment_budget import EnvironmentBudget
from callbacks.episode_video import EpisodeVideo
from toolkit.errors import UserError
from toolkit.vision.image_classification import ImageClassification


@pytest.mark.parametrize("callback", [EnvironmentBudget(), EpisodeVideo()])
def test_other_tasks_are_refused(callback: EnvironmentBudget | EpisodeVideo) -> None:
    task = ImageClassification(nn.Identity(), num_classes=2)
    with pytest.raises(UserError, match=r"got ImageClassification; remove it from trainer\.callbacks"):
        callback.setup(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), task, "fit")


def test_how_often_is_positive() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        EpisodeVideo(every_n_epochs=0)
