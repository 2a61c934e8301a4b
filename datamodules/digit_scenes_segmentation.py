"""Labels of pixels in scenes composed of scikit-learn's handwritten digits: nothing to download."""

import torch

from datamodules.digit_scenes import DigitScenes
from datamodules.image import pixel_statistics
from datamodules.segmentation import SegmentationArrays, SegmentationDataModule
from toolkit.errors import UserError
from toolkit.types import Stage


class DigitScenesSegmentationDataModule(SegmentationDataModule):
    """Scenes of real digits; each pixel is background or ink of one of the ten digits.

    The digits of the splits are disjoint; see `datamodules.digit_scenes.DigitScenes`. Scenes are composed when a split
    is first used and kept.

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
        image_size: tuple[int, int] = (96, 96),
        digits: tuple[int, int] = (1, 6),
        scale: tuple[float, float] = (2.0, 4.0),
        train_size: int = 4000,
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

    def build(self, stage: Stage) -> SegmentationArrays:
        """Compose the scenes of a split."""
        scenes = [self._scenes[stage](index) for index in range(self._sizes[stage])]
        mask = torch.stack([scene.mask.to(torch.uint8) for scene in scenes])
        return SegmentationArrays(torch.stack([scene.image for scene in scenes]), mask)
