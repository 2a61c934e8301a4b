"""The pipeline for images with boxes: what moves pixels moves the boxes with them, for each sample by its own key.

Shape legend: B batch, C channels, H height, W width, M boxes of an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform, view_keys
from toolkit.nn.augmentation.apply import RandomApply
from toolkit.nn.augmentation.base import Augmentation, PixelTransform
from toolkit.types import IGNORE_LABEL, DetectionBatch


class BoxTransform(nn.Module, ABC):
    """One random change of images and their boxes, computed for the whole batch at once.

    It uses no other source of randomness than the numbers that it is given, nothing of a sample may depend on the rest
    of the batch, and each image keeps to the upper left corner of its place.
    """

    draws: int
    """Uniform numbers taken for each sample."""

    @abstractmethod
    def forward(self, batch: DetectionBatch, u: Tensor) -> DetectionBatch:
        """Transform a batch.

        Args:
            batch: Images in uint8, or floating in ``[0, 1]``.
            u: ``(B, draws)``, float32, uniform in ``[0, 1)``.
        """


class DetectionAugmentation(nn.Module):
    """Transforms of images with boxes, applied in order on the device where the images are, then changes of colour.

    A sample's random numbers are a function of its key and of the transform's position in the list (`toolkit.keys`):
    no global generator is read or moved, and a sample comes out the same in any batch. All is computed in float32
    under any precision of the Trainer.

    Args:
        transforms: What moves boxes, first to last.
        photometric: What leaves pixels where they are, such as `ColorJitter`. It sees a small image with the black
            around it, which counts in means over the image.

    Raises:
        UserError: A transform of another kind, or a photometric one that moves pixels and would leave the boxes behind.

    >>> from toolkit.keys import sample_keys
    >>> from toolkit.nn.augmentation.box_flip import HorizontalBoxFlip
    >>> size, label = torch.tensor([[4, 8]]), torch.tensor([[0]])
    >>> box, image = torch.tensor([[[1.0, 0, 3, 4]]]), torch.zeros(1, 3, 4, 8, dtype=torch.uint8)
    >>> key = sample_keys(0, 0, torch.arange(1))
    >>> batch = DetectionBatch(image, size, size, box, label, label > 0, box[:, :, 0], label[0], key)
    >>> DetectionAugmentation([HorizontalBoxFlip(p=1)])(batch).box.tolist()
    [[[5.0, 0.0, 7.0, 4.0]]]
    """

    def __init__(self, transforms: Sequence[BoxTransform] = (), photometric: Augmentation | None = None) -> None:
        super().__init__()
        for transform in transforms:
            if not isinstance(transform, BoxTransform):
                raise UserError(
                    f"DetectionAugmentation.transforms: {type(transform).__name__} knows no boxes; write "
                    "HorizontalBoxFlip, VerticalBoxFlip, RandomZoom or another BoxTransform, and changes of colour as "
                    "photometric."
                )
        for change in photometric.transforms if photometric is not None else ():
            if not _stays_in_place(change):
                raise UserError(
                    f"DetectionAugmentation.photometric: {type(change).__name__} moves pixels and would leave the "
                    "boxes behind; write HorizontalBoxFlip, VerticalBoxFlip or RandomZoom among the transforms."
                )
        self.transforms = nn.ModuleList(transforms)
        self.photometric = photometric

    def forward(self, batch: DetectionBatch) -> DetectionBatch:
        """Augment a batch.

        Args:
            batch: As it comes from the loader.

        Returns:
            Sizes, index and keys as before, images in uint8 or floating in ``[0, 1]``; boxes that are gone are padding,
            which stands behind the others.
        """
        with torch.autocast(batch.image.device.type, enabled=False):
            for position, transform in enumerate(self.transforms):
                u = keyed_uniform(batch.key, stream=position, n=cast(BoxTransform, transform).draws)
                batch = transform(batch, u)
            if self.photometric is not None:
                image = self.photometric(batch.image, view_keys(batch.key, 0))
                batch = batch._replace(image=image * inside(batch))
        return batch


def _stays_in_place(transform: nn.Module) -> bool:
    if isinstance(transform, RandomApply):
        return _stays_in_place(transform.transform)
    return isinstance(transform, PixelTransform)


def inside(batch: DetectionBatch) -> Tensor:
    """Which pixels of their places the images fill, ``(B, 1, H, W)``, bool."""
    rows, columns = (torch.arange(n, device=batch.size.device) for n in batch.image.shape[2:])
    height, width = batch.size[:, :, None].unbind(1)  # (B, 1) each
    return ((rows < height)[:, :, None] & (columns < width)[:, None, :])[:, None]


def without(batch: DetectionBatch, gone: Tensor) -> DetectionBatch:
    """Make some boxes ``(B, M)`` padding, and move them behind the others."""
    gone = gone | (batch.label == IGNORE_LABEL)
    order = gone.long().argsort(dim=1, stable=True)  # (B, M)
    box = batch.box.where(~gone[:, :, None], 0.0)
    return batch._replace(
        box=box.gather(1, order[:, :, None].expand_as(box)),
        label=batch.label.where(~gone, IGNORE_LABEL).gather(1, order),
        crowd=(batch.crowd & ~gone).gather(1, order),
        area=batch.area.where(~gone, 0.0).gather(1, order),
    )
