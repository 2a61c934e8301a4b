"""Mirrored images and their boxes. Shape legend: B batch, C channels, H height, W width, M boxes."""

import torch
from torch import Tensor

from toolkit.nn.augmentation.boxes import BoxTransform
from toolkit.nn.augmentation.checks import check_probability
from toolkit.types import IGNORE_LABEL, DetectionBatch


class _BoxFlip(BoxTransform):
    """Mirror an image within its own size with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    draws = 1
    axis: int
    """0 for height, 1 for width."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        check_probability(f"{type(self).__name__}.p", p)
        self.p = p

    def forward(self, batch: DetectionBatch, u: Tensor) -> DetectionBatch:
        """Mirror some of the images, and all of their boxes."""
        flips = u[:, 0] < self.p  # (B,)
        side = batch.size[:, self.axis]  # (B,)
        image = self._mirrored(batch.image, side, flips)
        low, high = (1, 3) if self.axis == 0 else (0, 2)
        box = batch.box.clone()  # (B, M, 4)
        box[:, :, low], box[:, :, high] = side[:, None] - batch.box[:, :, high], side[:, None] - batch.box[:, :, low]
        chosen = flips[:, None, None] & (batch.label != IGNORE_LABEL)[:, :, None]
        return batch._replace(image=image, box=box.where(chosen, batch.box))

    def _mirrored(self, image: Tensor, side: Tensor, flips: Tensor) -> Tensor:
        dim = 2 + self.axis
        if image.device.type == "cpu":
            image = image.clone()
            for row, length in zip(flips.nonzero()[:, 0].tolist(), side[flips].tolist(), strict=True):
                part = image[row].narrow(dim - 1, 0, length)
                part.copy_(part.flip(dim - 1))
            return image
        place = torch.arange(image.shape[dim], device=image.device)  # other devices would wait for the sizes
        source = (side[:, None] - 1 - place).where(flips[:, None] & (place < side[:, None]), place)
        shape = [len(image), 1, 1, 1]
        shape[dim] = -1
        return image.gather(dim, source.view(shape).expand_as(image))


class HorizontalBoxFlip(_BoxFlip):
    """Swap left and right of an image and its boxes with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    axis = 1


class VerticalBoxFlip(_BoxFlip):
    """Swap top and bottom of an image and its boxes with probability ``p``; the dtype stays.

    Args:
        p: Probability.

    Raises:
        UserError: No probability.
    """

    axis = 0
