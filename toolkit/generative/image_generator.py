"""What every task is that draws images. Shape legend: N samples, C channels, H height, W width."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.types import ImageBatch, Stage

CHUNK = 250
"""Images that are drawn at a time: what fits into memory anywhere."""


class ImageGenerator(ABC):
    """Draws images: the n-th of a seed is the same whatever others are drawn with it."""

    class_names: list[str]
    """Of the data it was trained on."""
    is_conditional: bool
    """Whether an image of a class can be asked for."""

    @abstractmethod
    def draw(self, key: Tensor, label: Tensor | None) -> Tensor:
        """One image a key.

        Args:
            key: ``(N,)``, int64, keys of `toolkit.keys`.
            label: ``(N,)``, int64, classes asked for; None where the model knows none.

        Returns:
            ``(N, C, H, W)``, in ``[0, 1]``.
        """

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0, label: Tensor | None = None) -> Tensor:
        """Images of a seed.

        Args:
            count: N.
            seed: Which images.
            label: ``(N,)``, int64; the classes in turn if None.

        Returns:
            ``(N, C, H, W)``, float32 in ``[0, 1]``, on the CPU.
        """
        assert isinstance(self, torch.nn.Module)
        device = next(self.parameters()).device
        key = sample_keys(seed, 0, torch.arange(count, device=device))
        if self.is_conditional and label is None:
            label = torch.arange(count) % len(self.class_names)
        labels = label.to(device) if label is not None and self.is_conditional else None
        was_training = self.training
        self.eval()
        drawn = [
            self.draw(key[i : i + CHUNK], None if labels is None else labels[i : i + CHUNK]).float().cpu()
            for i in range(0, count, CHUNK)
        ]
        self.train(was_training)
        return torch.cat(drawn).clamp(0, 1)


class CodeGenerator(ImageGenerator, ABC):
    """An `ImageGenerator` whose images are functions of a code with a standard normal distribution."""

    @abstractmethod
    def codes(self, key: Tensor) -> Tensor:
        """Codes ``(N, Z)``, drawn by key."""

    @abstractmethod
    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Images ``(N, C, H, W)`` in ``[0, 1]`` of codes ``(N, Z)`` and classes ``(N,)``."""

    def draw(self, key: Tensor, label: Tensor | None) -> Tensor:
        """Decode what was drawn."""
        return self.decode(self.codes(key), label)


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Codes on the great circles between others, whose norm stays usual (White, "Sampling Generative Networks", 2016).

    Args:
        start: ``(N, Z)``.
        end: ``(N, Z)``.
        steps: Codes on each way, both ends included.

    Returns:
        ``(N, steps, Z)``.

    >>> interpolate(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3)[0, 1].tolist()
    [0.7071067690849304, 0.7071067690849304]
    """
    cosine = torch.cosine_similarity(start, end, dim=1).clamp(-0.9999, 0.9999)
    angle = cosine.acos()[:, None, None]  # (N, 1, 1)
    way = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[:, None]  # (steps, 1)
    sine = angle.sin()
    return ((1 - way) * angle).sin() / sine * start[:, None] + (way * angle).sin() / sine * end[:, None]


def class_number(name: str, class_names: Sequence[str]) -> int:
    """The number of a class that is given by name or number.

    Raises:
        UserError: There is no such class.

    >>> class_number("cat", ["dog", "cat"]), class_number("0", ["dog", "cat"])
    (1, 0)
    """
    if name in class_names:
        return list(class_names).index(name)
    if name.isdigit() and int(name) < len(class_names):
        return int(name)
    raise UserError(
        f"class: no class {name!r}; choose from {', '.join(class_names)}, or a number up to {len(class_names) - 1}."
    )


def evaluation_batches(data: Any, stage: Stage) -> Iterable[ImageBatch]:
    """The batches of "val" or "test" of a DataModule; on several ranks, this one's."""
    loader: Iterable[ImageBatch] = data.val_dataloader() if stage == "val" else data.test_dataloader()
    return loader
