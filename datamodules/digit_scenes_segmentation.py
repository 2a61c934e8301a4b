"""Labels of pixels in scenes composed of scikit-learn's handwritten digits: nothing to download."""

import numpy as np
import torch
from torch import Tensor

from datamodules.digit_scenes import DigitScenes
from datamodules.image import pixel_statistics
from datamodules.segmentation import LabelledPixels, SegmentationDataModule
from toolkit.errors import UserError
from toolkit.types import Stage


class ComposedScenes(LabelledPixels):
    """Scenes that are composed when they are first asked for, and kept.

    Args:
        scenes: What composes them.
        count: How many.
    """

    def __init__(self, scenes: DigitScenes, count: int) -> None:
        self.scenes = scenes
        # No tensors: those made in a validation's inference mode could not be written to in a training.
        self.image = np.zeros((count, 3, *scenes.image_size), dtype=np.uint8)
        self.mask = np.zeros((count, *scenes.image_size), dtype=np.uint8)
        self.composed = np.zeros(count, dtype=bool)

    def __len__(self) -> int:
        return len(self.mask)

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out a batch."""
        numbers = index.numpy()
        for number in numbers[~self.composed[numbers]]:
            scene = self.scenes(int(number))
            self.image[number], self.mask[number] = scene.image.numpy(), scene.mask.numpy()
            self.composed[number] = True
        return torch.from_numpy(self.image[numbers]), torch.from_numpy(self.mask[numbers])

    def masks(self, index: Tensor) -> Tensor:
        """Cut out masks."""
        return self.read(index)[1]


class DigitScenesSegmentationDataModule(SegmentationDataModule):
    """Scenes of real digits; each pixel is background or ink of one of the ten digits.

    The digits of the splits are disjoint; see `datamodules.digit_scenes.DigitScenes`.

    Args:
        image_size: Height and width.
        digits: Fewest and most digits of a scene.
        scale: Smallest and largest factor by which a digit of 8x8 pixels is enlarged.
        train_size: Scenes for training.
        val_size: Scenes for validation.
        test_size: Scenes for test.
        split_seed: Which digits are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A split without a scene, or a range that makes no sense.
    """

    in_channels = 3
    class_names = ("background", *"0123456789")

    def __init__(
        self,
        image_size: tuple[int, int] = (64, 64),
        digits: tuple[int, int] = (1, 3),
        scale: tuple[float, float] = (2.0, 4.0),
        train_size: int = 8000,
        val_size: int = 200,
        test_size: int = 500,
        split_seed: int = 0,
        **loader: int,
    ) -> None:
        super().__init__(**loader)
        self.image_size = (image_size[0], image_size[1])
        self._sizes: dict[Stage, int] = {"train": train_size, "val": val_size, "test": test_size}
        for stage, size in self._sizes.items():
            if size < 1:
                raise UserError(f"data.init_args.{stage}_size: need 1 scene or more, got {size}.")
        self._scenes = {
            stage: DigitScenes(stage, self.image_size, (digits[0], digits[1]), (scale[0], scale[1]), 0, split_seed)
            for stage in self._sizes
        }
        few = torch.stack([self._scenes["train"](index).image for index in range(min(train_size, 100))])
        self.pixel_mean, self.pixel_std = pixel_statistics(few)

    def build(self, stage: Stage) -> ComposedScenes:
        """The scenes of a split."""
        return ComposedScenes(self._scenes[stage], self._sizes[stage])
