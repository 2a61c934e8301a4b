"""scikit-learn's handwritten digits: the embedded default, nothing to download."""

import torch

from datamodules.image import ImageArrays, ImageDataModule, pixel_statistics
from datamodules.splits import stratified_split
from toolkit.types import Stage


class DigitsDataModule(ImageDataModule):
    """1,797 grey images of 8x8 pixels, ten classes, scaled from 0..16 to 0..255.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998; the copy in
    scikit-learn. There is no official split: 20 % are held out for test and 10 % for validation, stratified.

    Args:
        split_seed: What is held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    in_channels = 1
    image_size = (8, 8)
    class_names = tuple("0123456789")

    def __init__(self, split_seed: int = 0, **loader: int) -> None:
        super().__init__(**loader)
        self.split_seed = split_seed
        image, label = _read()
        rest, test = stratified_split(label, 0.2, split_seed)
        train, val = stratified_split(label[rest], len(label) // 10, split_seed)
        index = {"train": rest[train], "val": rest[val], "test": test}
        self._arrays = {stage: ImageArrays(image[i], label[i]) for stage, i in index.items()}
        self.pixel_mean, self.pixel_std = pixel_statistics(self._arrays["train"].image)

    def build(self, stage: Stage) -> ImageArrays:
        """A split of the embedded images."""
        return self._arrays[stage]


def _read() -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``(1797, 1, 8, 8)``, uint8, and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    image = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)
    return image[:, None].contiguous(), torch.from_numpy(digits.target).long()
