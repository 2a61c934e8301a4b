"""Pictures and tables of a run: to its folder always, to W&B and TensorBoard where they are attached."""

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.wandb_logger import QuietWandbLogger
from toolkit.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_told: set[str] = set()
"""The warnings given so far: one a cause, not one a picture."""


class Media(ABC):
    """Something to look at. A further kind (boxes, text, video) is one more subclass."""

    ending: ClassVar[str]
    """Of its file, with the dot."""

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the file."""

    @abstractmethod
    def for_wandb(self) -> Any:
        """The object that W&B logs."""

    @abstractmethod
    def to_tensorboard(self, writer: Any, key: str, step: int) -> None:
        """Add it to a ``SummaryWriter``."""


class Image(Media):
    """A picture.

    Args:
        pixels: ``(H, W, 3)``, uint8, array or tensor.
    """

    ending = ".png"

    def __init__(self, pixels: np.ndarray | Tensor) -> None:
        self.pixels = pixels.cpu().numpy() if isinstance(pixels, Tensor) else pixels
        assert self.pixels.ndim == 3, self.pixels.shape
        assert self.pixels.shape[2] == 3, self.pixels.shape
        assert self.pixels.dtype == np.uint8, self.pixels.dtype

    @classmethod
    def of_figure(cls, figure: "Figure") -> Self:
        """Render a matplotlib figure, which needs neither pyplot nor a display: ``matplotlib.figure.Figure(...)``."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        rgba = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        return cls(rgba[..., :3].copy())

    def write(self, path: Path) -> None:
        """Write a PNG."""
        import PIL.Image

        PIL.Image.fromarray(self.pixels).save(path, format="PNG")

    def for_wandb(self) -> Any:
        """A ``wandb.Image``."""
        import wandb

        return wandb.Image(self.pixels)

    def to_tensorboard(self, writer: Any, key: str, step: int) -> None:
        """An image."""
        writer.add_image(key, self.pixels, step, dataformats="HWC")


class Animation(Media):
    """Pictures one after another, as a GIF.

    Args:
        frames: ``(H, W, 3)``, uint8, all of one size; at least one.
        seconds: How long each is shown.
    """

    ending = ".gif"

    def __init__(self, frames: Sequence[np.ndarray], seconds: float = 0.4) -> None:
        self.frames, self.seconds = list(frames), seconds

    def write(self, path: Path) -> None:
        """Write a GIF that repeats."""
        import PIL.Image

        first, *others = (PIL.Image.fromarray(frame) for frame in self.frames)
        milliseconds = int(1000 * self.seconds)
        first.save(path, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)

    def for_wandb(self) -> Any:
        """The last frame: a ``wandb.Video`` needs a package more."""
        return Image(self.frames[-1]).for_wandb()

    def to_tensorboard(self, writer: Any, key: str, step: int) -> None:
        """The last frame, likewise."""
        Image(self.frames[-1]).to_tensorboard(writer, key, step)


class Table(Media):
    """Rows under column names.

    Args:
        columns: The names.
        rows: Values that have a text, as many in each row as there are columns.
    """

    ending = ".csv"

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.columns, self.rows = list(columns), [list(row) for row in rows]

    def write(self, path: Path) -> None:
        """Write a CSV."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])

    def for_wandb(self) -> Any:
        """A ``wandb.Table``."""
        import wandb

        return wandb.Table(columns=[*self.columns], data=self.rows)

    def to_tensorboard(self, writer: Any, key: str, step: int) -> None:
        """A text: TensorBoard has no tables, but reads Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        writer.add_text(key, "\n".join(" | ".join(map(str, line)) for line in lines), step)


def check_drawn(callback: Callback, pl_module: LightningModule, kinds: tuple[type, ...]) -> None:
    """Refuse tasks of which a callback has no picture.

    Raises:
        UserError: Says which tasks it draws.
    """
    if not isinstance(pl_module, kinds):
        raise UserError(
            f"{type(callback).__name__}: draws {' and '.join(kind.__name__ for kind in kinds)}, got "
            f"{type(pl_module).__name__}; remove it from trainer.callbacks."
        )


def log_media(trainer: Trainer, key: str, media: Media) -> None:
    """Write ``media/<key>/<step>.png`` (or ``.csv``) below the run folder, and show it in W&B and TensorBoard.

    All ranks must call this, for they ask rank 0 for the folder; rank 0 alone writes. A full disk costs a warning. In a
    ``fast_dev_run``, which leaves no files, nothing is done.

    Args:
        trainer: Whose run it is.
        key: Name, such as ``val/confusion_matrix``.
        media: What is to be seen.
    """
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    step = trainer.global_step
    path = folder / "media" / key / f"{step:08d}{media.ending}"
    _despite_the_disk(path, lambda: _write(path, media))
    for logger in trainer.loggers:
        if isinstance(logger, QuietWandbLogger):
            _despite_the_disk(path, lambda to=logger: to.log_media({key: media.for_wandb()}, step))  # type: ignore[misc]
        elif isinstance(logger, WandbLogger):
            _despite_the_disk(path, lambda to=logger: to.log_metrics({key: media.for_wandb()}, step))  # type: ignore[misc]
        elif isinstance(logger, TensorBoardLogger):
            _despite_the_disk(path, lambda to=logger: media.to_tensorboard(to.experiment, key, step))  # type: ignore[misc]


def _write(path: Path, media: Media) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    media.write(beside)
    os.replace(beside, path)


def _despite_the_disk(path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        media = next(parent for parent in path.parents if parent.name == "media")
        text = f"{media}: pictures cannot be written ({error.strerror or type(error).__name__}); the run goes on."
        if text not in _told:
            _told.add(text)
            rank_zero_warn(text)
