"""Images on disk and the masks of their pixels, wherever those come from.

Shape legend: N images, B batch, C channels, H height, W width of the network's images, h and w of a file.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from datamodules.image_reader import ImageReader, UnreadableImageError, open_image
from datamodules.segmentation import IGNORED_BYTE, LabelledPixels, SegmentationArrays
from toolkit.errors import UserError

UNKNOWN = 254
"""How a value that is no class is marked in a table of values."""


class MaskSource(ABC):
    """Gives the mask of an image at the size of its file."""

    @abstractmethod
    def __call__(self, sample: int) -> np.ndarray:
        """``(h, w)``, uint8: class numbers, `IGNORED_BYTE` where there is no label."""

    @abstractmethod
    def name(self, sample: int) -> str:
        """Where the mask comes from, for messages."""


class SomeMasks(MaskSource):
    """Those of some of the samples.

    Args:
        source: Of all.
        samples: Their numbers there.
    """

    def __init__(self, source: MaskSource, samples: Sequence[int]) -> None:
        self.source, self.samples = source, samples

    def __call__(self, sample: int) -> np.ndarray:
        """That of the sample's number there."""
        return self.source(self.samples[sample])

    def name(self, sample: int) -> str:
        """Likewise."""
        return self.source.name(self.samples[sample])


class MaskFiles(MaskSource):
    """Grey or paletted files whose values stand for classes.

    Args:
        paths: N files.
        values: Grey value, or number in the palette, of each class.
        ignored: The value of pixels without a label; None: there are none.
    """

    def __init__(self, paths: Sequence[Path], values: Sequence[int], ignored: int | None) -> None:
        self.paths = paths
        self.table = np.full(256, UNKNOWN, dtype=np.uint8)
        if ignored is not None:
            self.table[ignored] = IGNORED_BYTE
        self.table[list(values)] = np.arange(len(values))

    def __call__(self, sample: int) -> np.ndarray:
        """Read a file.

        Raises:
            UserError: It cannot be read, is coloured, or has a value that stands for no class.
        """
        value = read_mask(self.paths[sample])
        mask: np.ndarray = self.table[value.clip(0, 255)]
        if (value < 0).any() or (value > 255).any() or (mask == UNKNOWN).any():
            known = np.flatnonzero(self.table < UNKNOWN).tolist()
            wrong = sorted(set(np.unique(value).tolist()) - {*known, *np.flatnonzero(self.table == IGNORED_BYTE)})
            raise UserError(
                f"data: mask {str(self.paths[sample])!r} has the values {wrong[:5]}, which stand for no class; the "
                f"classes have {known[:10]}{'...' if len(known) > 10 else ''}. Name all classes with "
                "data.init_args.class_names, and write data.init_args.values if they are not 0, 1, 2, ..., such as "
                "[0, 255]."
            )
        return mask

    def name(self, sample: int) -> str:
        """The file's path."""
        return str(self.paths[sample])


def read_mask(path: Path) -> np.ndarray:
    """The grey values of a file, or its numbers in a palette, ``(h, w)``.

    Raises:
        UserError: It cannot be read, or is coloured.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, value = image.mode, np.asarray(image)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, ... for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"data: cannot read the mask {str(path)!r} ({reason}); mend it or remove its image.") from error
    if value.ndim != 2 or mode.startswith("F"):
        raise UserError(
            f"data: mask {str(path)!r} is a picture of mode {mode}, of shape {list(value.shape)}; a mask is a grey or "
            "paletted PNG of class numbers, such as PASCAL VOC's."
        )
    return value.astype(np.int64)


class SegmentationFiles(LabelledPixels):
    """A split on disk; the files of a batch are decoded when it is asked for.

    Args:
        paths: N images.
        source: Of their masks.
        reader: From a file to pixels; masks go the same way, by the nearest pixel.
    """

    def __init__(self, paths: Sequence[Path], source: MaskSource, reader: ImageReader) -> None:
        self.paths, self.source, self.reader = paths, source, reader

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a batch.

        Raises:
            UserError: A file cannot be read, or a mask has another size than its image.
        """
        pairs = [self._pair(int(sample)) for sample in index]
        image, mask = zip(*pairs, strict=True)
        return torch.stack(image), torch.stack(mask)

    def masks(self, index: Tensor) -> Tensor:
        """Decode masks only."""
        return torch.stack([self._fitted(self.source(int(sample))) for sample in index])

    def subset(self, samples: Sequence[int]) -> Self:
        """Some of the images."""
        return type(self)([self.paths[i] for i in samples], SomeMasks(self.source, samples), self.reader)

    def in_memory(self) -> SegmentationArrays:
        """Decode everything once."""
        return SegmentationArrays(*self.read(torch.arange(len(self))))

    def _pair(self, sample: int) -> tuple[Tensor, Tensor]:
        mask = self.source(sample)
        try:
            picture = open_image(self.paths[sample], self.reader.in_channels, mask.shape)
        except UnreadableImageError as error:
            raise UserError(f"data: {error}. Mend or remove the file.") from error
        if mask.shape != picture.size[::-1]:
            raise UserError(
                f"data: image {str(self.paths[sample])!r} has {list(picture.size[::-1])} pixels (height, width), its "
                f"mask {self.source.name(sample)!r} has {list(mask.shape)}; make them equal."
            )
        return self.reader.pixels(picture), self._fitted(mask)

    def _fitted(self, mask: np.ndarray) -> Tensor:
        from PIL import Image

        nearest: Any = self.reader.fitted(Image.fromarray(mask), Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(nearest))
