"""How long the texts of each split are."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import Image, log_media
from toolkit.errors import UserError
from toolkit.types import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES: tuple[Stage, ...] = ("train", "val", "test")
BINS = 40
"""Bars, from no token to as many as the longest text has."""


@runtime_checkable
class MeasuredTexts(Protocol):
    """A DataModule that knows how many tokens its texts have."""

    def lengths(self, stage: Stage) -> Tensor | None:
        """``(M,)``, int64, as they are read, marks included; None: there is no such split."""


class LengthHistogram(Callback):
    """Draws once a run, when it is over, how many tokens the texts have: those of each split have the same area."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data that does not know it, before the training and not behind it."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and not isinstance(data, MeasuredTexts):
            raise UserError(
                f"LengthHistogram: {type(data).__name__} does not say how long its texts are; remove it from "
                "trainer.callbacks."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw; every rank comes here."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, MeasuredTexts)
        picture = Image(np.zeros((1, 1, 3), dtype=np.uint8))
        if trainer.is_global_zero:
            found = {stage: data.lengths(stage) for stage in STAGES}
            picture = Image.of_figure(_figure({s: part.numpy() for s, part in found.items() if part is not None}))
        log_media(trainer, "lengths", picture)


def _figure(lengths: dict[Stage, np.ndarray]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.5), layout="constrained")
    axes = figure.add_subplot()
    edges = np.linspace(0, max(part.max() for part in lengths.values()) + 1, BINS + 1).tolist()
    for stage, part in lengths.items():
        label = f"{stage}: {len(part)}, median {np.median(part):.0f}, longest {part.max()}"
        axes.hist(part, bins=edges, density=True, histtype="step", label=label)
    axes.set(xlabel="tokens", ylabel="share of the texts")
    axes.legend()
    return figure
