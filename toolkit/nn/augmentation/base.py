"""The pipeline: keyed transforms of a batch of images, each sample with random numbers of its own.

Shape legend: B batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform

CACHED = 2**19
"""Numbers that a CPU augments at once: as float32 they stay in its cache from one transform to the next."""


def to_float(image: Tensor) -> Tensor:
    """Images as float32 in ``[0, 1]``; uint8 is divided by 255, floating images are taken to be in that range.

    Args:
        image: Any shape, uint8 in 0..255 or floating in ``[0, 1]``.

    Returns:
        The same shape, float32.

    Raises:
        UserError: Another dtype.

    >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if image.dtype == torch.uint8:
        return image.to(torch.float32).div_(255)
    if not image.is_floating_point():
        raise UserError(f"images: need uint8 or a floating dtype, got {image.dtype}; write images.to(torch.uint8).")
    return image.to(torch.float32)


class Transform(nn.Module, ABC):
    """One random change of images, computed for the whole batch at once.

    A subclass says how many random numbers a sample takes and turns them into an image. It uses no other source of
    randomness, and nothing of a sample may depend on the rest of the batch. Intensities among its arguments are on the
    scale ``[0, 1]``, whatever the dtype of the images. Those of the toolkit also have ``make_params``, which says what
    the random numbers mean: the arguments of torchvision's function of that name, for each sample.
    """

    draws: int
    """Uniform numbers taken for each sample."""

    @abstractmethod
    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Transform a batch.

        Args:
            image: ``(B, C, H, W)``, uint8, or floating in ``[0, 1]``.
            u: ``(B, draws)``, float32, uniform in ``[0, 1)``.

        Returns:
            ``(B, C, H', W')``: of the same dtype where pixels are only moved or replaced, else float32 in ``[0, 1]``.
        """

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """Let the labels of pixels follow their pixels.

        Args:
            mask: ``(B, H, W)``, int64.
            u: ``(B, draws)``, those that `forward` gets.

        Returns:
            ``(B, H', W')``, int64; ``IGNORE_LABEL`` where there is no pixel of the image.

        Raises:
            UserError: The transform does not say where its pixels go.
        """
        raise UserError(
            f"Augmentation.transforms: {type(self).__name__} does not say how the labels of pixels move; implement its "
            "move_mask, or derive it from PixelTransform if every pixel stays in its place."
        )


class PixelTransform(Transform, ABC):
    """A transform that changes colours and leaves every pixel in its place."""

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """The labels as they are."""
        return mask


class Augmentation(nn.Module):
    """Transforms applied in order, on the device where the images are.

    A sample's random numbers are a function of its key and of the transform's position in the list (`toolkit.keys`):
    no global generator is read or moved, and a sample comes out the same in any batch. All is computed in float32
    under any precision of the Trainer, because bfloat16 cannot count the pixels of a row.

    Args:
        transforms: What to do, first to last.

    Raises:
        UserError: A transform of another library; from ``forward``, images that are not a batch, or not one key an
            image.

    >>> from toolkit.keys import sample_keys
    >>> from toolkit.nn.augmentation import RandomCrop, RandomHorizontalFlip
    >>> augment = Augmentation([RandomCrop(padding=4), RandomHorizontalFlip()])
    >>> image, key = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), sample_keys(0, 0, torch.arange(2))
    >>> augment(image, key).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise UserError(
                    f"Augmentation.transforms: {type(transform).__name__} is no keyed transform; write one of "
                    "toolkit.nn.augmentation, or a subclass of its Transform."
                )
        self.transforms = nn.ModuleList(transforms)

    def forward(self, image: Tensor, key: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            image: ``(B, C, H, W)``, uint8 raw pixels, or floating in ``[0, 1]``.
            key: ``(B,)``, int64, the samples' keys.

        Returns:
            ``(B, C, H', W')``, of the dtype that the last transform leaves; see `to_float`.
        """
        draws = self._draws(image, key)
        at_once = max(1, len(image))
        if image.device.type == "cpu" and len(image):
            at_once = max(1, CACHED // image[:1].numel())
        with torch.autocast(image.device.type, enabled=False):
            parts = []
            for start in range(0, max(1, len(image)), at_once):
                part = image[start : start + at_once]
                for transform, u in zip(self.transforms, draws, strict=True):
                    part = transform(part, u[start : start + at_once])
                parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def with_mask(self, image: Tensor, mask: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch of images whose pixels have labels.

        Args:
            image: ``(B, C, H, W)``, as for `forward`, which changes them alike.
            mask: ``(B, H, W)``, int64.
            key: ``(B,)``, int64, the samples' keys.

        Returns:
            The images, and the labels ``(B, H', W')`` of their pixels.

        Raises:
            UserError: A transform does not say where its pixels go.
        """
        for transform, u in zip(self.transforms, self._draws(image, key), strict=True):
            mask = cast(Transform, transform).move_mask(mask, u)
        return self(image, key), mask

    def _draws(self, image: Tensor, key: Tensor) -> list[Tensor]:
        """The random numbers of each transform."""
        if image.ndim != 4 or key.shape != image.shape[:1]:
            raise UserError(
                f"images: need a batch (B, C, H, W) and one key an image, got images of shape {tuple(image.shape)} and "
                f"keys of shape {tuple(key.shape)}; give one image as image[None], its key as key[None]."
            )
        return [
            keyed_uniform(key, stream=position, n=cast(Transform, transform).draws)
            for position, transform in enumerate(self.transforms)
        ]
