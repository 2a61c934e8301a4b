"""Detection's embedded default: scenes composed of handwritten digits, nothing to download."""

from collections.abc import Sequence
from typing import Any

import torch

from datamodules.annotated_images import PackedBoxes
from datamodules.detection import DetectionArrays, DetectionDataModule, Pixels
from datamodules.digit_scenes import DigitScenes
from datamodules.image import pixel_statistics
from datamodules.image_reader import size_pair
from toolkit.errors import UserError
from toolkit.types import Stage


class DigitScenesDataModule(DetectionDataModule):
    """Scenes of `datamodules.digit_scenes`: ten classes, exact boxes, disjoint digits in the three splits.

    Args:
        sizes: Scenes for training, validation and test.
        image_size: Height and width of a scene, or one number for both.
        digits: Fewest and most digits of a scene.
        scale: Smallest and largest factor by which a digit of 8x8 pixels is enlarged.
        scene_seed: Which scenes are composed; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: Sizes or ranges that make no sense.
    """

    in_channels = 3
    class_names: Sequence[str] = tuple("0123456789")
    category_ids: Sequence[int] = tuple(range(1, 11))

    def __init__(
        self,
        sizes: tuple[int, int, int] = (2000, 200, 300),
        image_size: int | tuple[int, int] = 96,
        digits: tuple[int, int] = (1, 6),
        scale: tuple[float, float] = (2.0, 4.0),
        scene_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        if len(sizes) != 3 or min(sizes) < 1:
            raise UserError(
                f"data.init_args.sizes: need three numbers of scenes from 1 up, for training, validation and test, got "
                f"{list(sizes)}; such as [2000, 200, 300]."
            )
        self.image_size = size_pair(image_size)
        self._sizes: dict[Stage, int] = {"train": sizes[0], "val": sizes[1], "test": sizes[2]}
        stages: tuple[Stage, ...] = ("train", "val", "test")
        self._scenes = {stage: DigitScenes(stage, self.image_size, digits, scale, scene_seed) for stage in stages}
        few = [self._scenes["train"](index).image for index in range(min(100, sizes[0]))]
        self.pixel_mean, self.pixel_std = pixel_statistics(torch.stack(few))

    def build(self, stage: Stage) -> DetectionArrays:
        """Compose the scenes of a split."""
        scenes = [self._scenes[stage](index) for index in range(self._sizes[stage])]
        box, label = (torch.cat([getattr(scene, name) for scene in scenes]) for name in ("box", "label"))
        area = (box[:, 2:] - box[:, :2]).prod(dim=1)
        count = torch.tensor([len(scene.label) for scene in scenes])
        size = torch.tensor(self.image_size).expand(len(scenes), 2).contiguous()
        image = torch.stack([scene.image for scene in scenes])
        pixels = Pixels(image, size, size, torch.ones(len(scenes), dtype=torch.bool))
        return DetectionArrays(pixels, PackedBoxes(box, label, torch.zeros_like(label, dtype=torch.bool), area, count))
