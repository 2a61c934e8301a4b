"""What a translator writes while it learns, and where it looks; how long the texts are."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import Image, Table, log_media
from toolkit.errors import UserError
from toolkit.language.tokenizer import Tokenizer
from toolkit.language.translation import Translation
from toolkit.types import IGNORE_LABEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

END = "(end)"
LOST = "\N{REPLACEMENT CHARACTER}"


class _Shown(NamedTuple):
    """A text that is looked at."""

    source: Tensor
    """``(S,)``, int64, with the end."""
    label: Tensor
    """``(T,)``, int64, with the end."""
    found: Tensor
    """``(N,)``, int64, without the end."""


class TranslatedTexts(Callback):
    """After each validation a table of texts, their translations and the references, and maps of the attention.

    A row of a map is a token that was written, a column a token that was read; of a transformer it is the mean over the
    heads of the last layer. The texts are some of rank 0, short and long, the same each time.

    Args:
        count: Rows of the table.
        maps: How many of the texts have a map.
        every_n_epochs: How often.
    """

    def __init__(self, count: int = 12, maps: int = 4, every_n_epochs: int = 1) -> None:
        if count < 1 or maps < 0 or every_n_epochs < 1:
            raise UserError(
                "TranslatedTexts: need count and every_n_epochs of at least 1, and maps of at least 0, got "
                f"{count}, {every_n_epochs} and {maps}."
            )
        self.count, self.maps, self.every_n_epochs = count, maps, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        _need_translation(self, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._shown: list[_Shown] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a few texts of each batch: they come in the order of their lengths."""
        rows = np.linspace(0, len(batch.source) - 1, min(self.count, len(batch.source))).astype(int)
        for row in rows.tolist():
            texts = batch.source[row, : int(batch.source_length[row])], batch.label[row], outputs.token[row]
            self._shown.append(_Shown(*(text[text != IGNORE_LABEL].cpu() for text in texts)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table and draw the maps."""
        if trainer.sanity_checking or trainer.fast_dev_run or (trainer.current_epoch + 1) % self.every_n_epochs:  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, Translation)
        shown = _some(self._shown, self.count)
        rows = [
            [pl_module.source_tokenizer.decode(text.source.tolist()), *pl_module.texts_of([text.found, text.label])]
            for text in shown
        ]
        log_media(trainer, "val/translations", Table(["source", "translation", "reference"], rows))
        if self.maps:
            _log(trainer, "val/attention", lambda: _maps(pl_module, _some(shown, self.maps)))


class TranslationLengths(Callback):
    """At the end of an evaluation, how long translations and their references are: one sees what was cut short."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a task that does not translate."""
        _need_translation(self, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._lengths: list[Tensor] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count tokens, the ends not."""
        found = (outputs.token != IGNORE_LABEL).sum(dim=1)
        reference = (batch.label != IGNORE_LABEL).sum(dim=1) - 1
        self._lengths.append(torch.stack([batch.source_length - 1, found, reference]).cpu())  # (3, B)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw those of rank 0."""
        _log(trainer, "test/lengths", lambda: _histogram(torch.cat(self._lengths, dim=1).numpy()))


def _need_translation(callback: Callback, task: LightningModule) -> None:
    if not isinstance(task, Translation):
        raise UserError(
            f"{type(callback).__name__}: {type(task).__name__} does not translate; remove it from trainer.callbacks."
        )


def _log(trainer: Trainer, key: str, draw: Callable[[], "Figure"]) -> None:
    """Drawn on rank 0 alone, but all ranks must call `log_media`."""
    nothing = np.zeros((1, 1, 3), dtype=np.uint8)
    log_media(trainer, key, Image.of_figure(draw()) if trainer.is_global_zero else Image(nothing))


def _some(shown: Sequence[_Shown], count: int) -> list[_Shown]:
    """Evenly from all of them."""
    return [shown[place] for place in np.linspace(0, len(shown) - 1, min(count, len(shown))).astype(int)]


@torch.no_grad()
def _maps(task: Translation, shown: Sequence[_Shown]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(shown), 7), layout="constrained")
    for axes, text in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        weights = task.attention(text.source, text.found)  # (T, S)
        axes.imshow(weights.cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
        columns = _spelled(task.source_tokenizer, text.source)
        rows = [*_spelled(task.target_tokenizer, text.found), END]
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(rows)), rows)
    return figure


def _spelled(tokenizer: Tokenizer, tokens: Tensor) -> list[str]:
    names = [
        END if token == tokenizer.end_token else tokenizer.spelling[token].decode("utf-8", errors="replace").strip()
        for token in tokens.tolist()
    ]
    return [name.replace("$", r"\$") if name.isprintable() else LOST for name in names]  # $ begins a formula


def _histogram(lengths: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    bins = np.arange(lengths.max() + 2).tolist()
    axes.hist(list(lengths), bins=bins, histtype="step", label=["source", "translation", "reference"])
    axes.set_xlabel("tokens")
    axes.set_ylabel("texts")
    axes.legend()
    return figure
