"""What annotation files of every format are read into. Shape legend: N images, B of a batch, M boxes of an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toolkit.types import IGNORE_LABEL


class AnnotatedImage(NamedTuple):
    """An image file and the objects that someone has found in it."""

    path: Path
    """The file."""
    size: tuple[int, int]
    """Height and width, in whose pixels the boxes are."""
    box: Tensor
    """``(M, 4)``, float32, (left, top, right, bottom)."""
    label: Tensor
    """``(M,)``, int64, class numbers in 0..K-1."""
    crowd: Tensor
    """``(M,)``, bool, whether a box stands around many objects."""
    area: Tensor
    """``(M,)``, float32, of each object."""
    image_id: int
    """What the annotation file calls the image."""


class PackedBoxes(NamedTuple):
    """The boxes of all images one after another, so that an image with many costs the others nothing. S boxes."""

    box: Tensor
    """``(S, 4)``, float32, (left, top, right, bottom) in pixels of the files."""
    label: Tensor
    """``(S,)``, int64."""
    crowd: Tensor
    """``(S,)``, bool."""
    area: Tensor
    """``(S,)``, float32."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls on it
    """``(N,)``, int64, boxes of each image; stays on the CPU."""

    @classmethod
    def of(cls, images: Sequence[AnnotatedImage]) -> Self:
        """Those of a split."""
        empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), torch.zeros(0))
        fields = zip(*((image.box, image.label, image.crowd, image.area) for image in images), strict=True)
        box, label, crowd, area = (torch.cat(parts) for parts in fields) if images else empty
        return cls(box, label, crowd, area, torch.tensor([len(image.label) for image in images], dtype=torch.int64))

    def to(self, device: torch.device) -> Self:
        """On another device."""
        return self._replace(**{name: getattr(self, name).to(device) for name in self._fields if name != "count"})

    def padded(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The boxes of images ``(B,)``, padded to the most of them, at least to one.

        Returns:
            (box ``(B, M, 4)``, label ``(B, M)``, crowd ``(B, M)``, area ``(B, M)``), as `toolkit.types.DetectionBatch`
            has them, in pixels of the files.
        """
        count = self.count[index]  # (B,)
        place = torch.arange(max(1, int(count.max()) if len(count) else 0))  # (M,)
        first = self.count.cumsum(0)[index] - count
        real = place < count[:, None]  # (B, M)
        if not len(self.label):
            B, M = real.shape
            none = torch.full((B, M), IGNORE_LABEL, device=self.label.device)
            zero = none.new_zeros(B, M, dtype=torch.float32)
            return none.new_zeros(B, M, 4, dtype=torch.float32), none, torch.zeros_like(none, dtype=torch.bool), zero
        # Numbers are made on the CPU, where the counts are, and the boxes gathered where they lie.
        row = (first[:, None] + place).where(real, 0).to(self.label.device)
        real = real.to(self.label.device)
        return (
            self.box[row] * real[:, :, None],
            self.label[row].where(real, IGNORE_LABEL),
            self.crowd[row] & real,
            self.area[row] * real,
        )
