"""An episode of the agent to look at."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.media import Animation, log_media
from toolkit.errors import UserError
from toolkit.reinforcement.player import play_and_watch
from toolkit.reinforcement.reinforcement_task import ReinforcementTask

MOST_FRAMES = 200
"""Of one animation; a longer episode is shown with gaps."""


class EpisodeVideo(Callback):
    """A greedy episode as an animation: after every so many validations, and at the end of the fit.

    Args:
        every_n_epochs: How often; only at the end if None.
        seed: Of the episode.
    """

    def __init__(self, every_n_epochs: int | None = None, seed: int = 0) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise UserError(f"EpisodeVideo.every_n_epochs: need at least 1, got {every_n_epochs}.")
        self.every_n_epochs, self.seed = every_n_epochs, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        if not isinstance(pl_module, ReinforcementTask):
            raise UserError(
                f"EpisodeVideo: films an agent, got {type(pl_module).__name__}; remove it from trainer.callbacks."
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Film, if it is time."""
        every = self.every_n_epochs
        if every is not None and not trainer.sanity_checking and (trainer.current_epoch + 1) % every == 0:
            self._film(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Film."""
        self._film(trainer, pl_module)

    def _film(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ReinforcementTask)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        frames = [np.zeros((1, 1, 3), dtype=np.uint8)]
        if trainer.is_global_zero:
            try:
                frames = play_and_watch(pl_module, data.player(), self.seed, MOST_FRAMES).frames
            except UserError as error:  # a picture is worth no run
                rank_zero_info(f"no film of an episode: {error}")
                frames = []
        if trainer.strategy.broadcast(bool(frames)):  # every rank must come to log_media, or none
            log_media(trainer, "val/episode", Animation(frames, seconds=0.04))
