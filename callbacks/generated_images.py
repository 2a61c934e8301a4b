"""What a generative model draws: fixed noise while it learns, ways between codes, reconstructions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.media import Animation, Image, log_media
from toolkit.errors import UserError
from toolkit.generative.image_generator import CodeGenerator, ImageGenerator, interpolate
from toolkit.generative.picture_grid import picture_grid
from toolkit.generative.vae import VAE
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import to_float
from toolkit.selfsupervised.autoencoder import Autoencoder
from toolkit.types import ImageBatch

KEY = "val/samples"


class SampleGrid(Callback):
    """Images of the same noise after each validation, a column a class, and at the end an animation of them all.

    With the callback `EMA` they are those of the average. The noise is keyed: drawing moves no generator. The animation
    is made of the files in the run folder, so that a resumed run has all of it.

    Args:
        rows: Images of each class; of a model without classes, the side of the square.
        every_n_epochs: How often.
    """

    def __init__(self, rows: int = 6, every_n_epochs: int = 1) -> None:
        if rows < 1 or every_n_epochs < 1:
            raise UserError(f"SampleGrid: need rows >= 1 and every_n_epochs >= 1, got {rows} and {every_n_epochs}.")
        self.rows, self.every_n_epochs = rows, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _check(self, pl_module, ImageGenerator)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if trainer.sanity_checking or trainer.fast_dev_run or (trainer.current_epoch + 1) % self.every_n_epochs:  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, ImageGenerator)
        columns = min(len(pl_module.class_names), 20) if pl_module.is_conditional else self.rows
        label = torch.arange(self.rows * columns) % columns if pl_module.is_conditional else None
        image = pl_module.sample(self.rows * columns, seed=0, label=label)
        log_media(trainer, KEY, Image(picture_grid(image, columns)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the grids of the run together."""
        import PIL.Image

        folder = Path(trainer.log_dir or trainer.default_root_dir) / "media" / KEY
        files = sorted(folder.glob("*.png")) if trainer.is_global_zero else []
        frames = []
        for file in files:
            with PIL.Image.open(file) as picture:
                frames.append(np.asarray(picture.convert("RGB")))
        if trainer.strategy.broadcast(len(frames) > 1):  # every rank must come to log_media, or none
            log_media(trainer, "val/samples_animation", Animation(frames or [np.zeros((1, 1, 3), dtype=np.uint8)]))


class Interpolation(Callback):
    """At the end of a fit, the images on the way from one code to another.

    Args:
        rows: Ways.
        steps: Images on each.
    """

    def __init__(self, rows: int = 6, steps: int = 10) -> None:
        if rows < 1 or steps < 2:
            raise UserError(f"Interpolation: need rows >= 1 and steps >= 2, got {rows} and {steps}.")
        self.rows, self.steps = rows, steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _check(self, pl_module, CodeGenerator)

    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        assert isinstance(pl_module, CodeGenerator)
        codes = pl_module.codes(sample_keys(0, 1, torch.arange(2 * self.rows, device=pl_module.device)))
        way = interpolate(codes[: self.rows], codes[self.rows :], self.steps).flatten(0, 1)  # (rows * steps, Z)
        label = None
        if pl_module.is_conditional:
            label = torch.arange(self.rows, device=pl_module.device) % len(pl_module.class_names)
            label = label.repeat_interleave(self.steps)
        was_training = pl_module.training
        pl_module.eval()
        image = pl_module.decode(way, label).float().cpu()
        pl_module.train(was_training)
        log_media(trainer, "val/interpolation", Image(picture_grid(image.clamp(0, 1), self.steps)))


class Reconstructions(Callback):
    """Images of the last validation, each with its reconstruction to the right.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 30) -> None:
        if count < 1:
            raise UserError(f"Reconstructions.count: need at least 1, got {count}.")
        self.count = count

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _check(self, pl_module, VAE, Autoencoder)

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, batch_idx: int, *args: int
    ) -> None:
        """Draw the first batch."""
        if batch_idx or trainer.sanity_checking:
            return
        assert isinstance(pl_module, (VAE, Autoencoder))
        image = to_float(batch.image[: self.count]).to(pl_module.dtype)
        both = torch.stack([image, pl_module.reconstruct(image)], dim=1).flatten(0, 1)  # (2 * count, C, H, W)
        columns = 2 * math.ceil(math.sqrt(self.count / 2))
        log_media(trainer, "val/reconstructions", Image(picture_grid(both.float().cpu(), columns)))


def _check(callback: Callback, pl_module: LightningModule, *kinds: type) -> None:
    if not isinstance(pl_module, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"{type(callback).__name__}: draws a {names}, got {type(pl_module).__name__}; remove it from "
            "trainer.callbacks."
        )
