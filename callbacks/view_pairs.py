"""What a task that compares views gets to see. Shape legend: B batch, C channels, H height, W width."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.image_media import grid, raw_pixels
from callbacks.media import Image, log_media
from toolkit.errors import UserError
from toolkit.selfsupervised.two_views import TwoViews
from toolkit.types import ImageBatch


class ViewPairs(Callback):
    """The two views of the first training images, side by side and in their own colours.

    Args:
        count: How many images.

    Raises:
        UserError: A task that does not compare two views.
    """

    def __init__(self, count: int = 16) -> None:
        self.count = count
        self._done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        if not isinstance(pl_module, TwoViews):
            raise UserError(
                f"ViewPairs: it shows what SimCLR, VICReg or BYOL compare, the model is {type(pl_module).__name__}; "
                "remove it from trainer.callbacks."
            )

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ImageBatch, batch_idx: int
    ) -> None:
        """Draw once a run."""
        if self._done:
            return
        self._done = True
        assert isinstance(pl_module, TwoViews)
        views = pl_module.views(ImageBatch(*(field[: self.count] for field in batch))).image  # (2 B, C, H, W)
        if len(views):  # of images that cannot be read there are none
            first, second = raw_pixels(pl_module.normalize, views).chunk(2)
            log_media(trainer, "train/views", Image(grid(torch.cat([first, second], dim=3))))
