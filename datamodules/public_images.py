"""What the public data sets that torchvision downloads and holds in memory have in common."""

from abc import ABC
from typing import Any, ClassVar

import torch

from datamodules.image import ImageArrays, ImageDataModule
from datamodules.splits import stratified_split
from toolkit.errors import UserError
from toolkit.types import Stage


class PublicImages(ImageDataModule, ABC):
    """A data set of `torchvision.datasets` whose images lie in one array. Validation is held out of its training part.

    A subclass names the data set and its facts.

    Args:
        root: Folder of data sets; the download goes there unless the files are there.
        val_size: Training images held out for validation: a count, or as float a share; stratified.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    torchvision_name: ClassVar[str]
    """Name of the class in `torchvision.datasets`."""
    files: ClassVar[str]
    """Which files to put where below ``root`` by hand."""

    def __init__(self, root: str = "data", val_size: int | float = 5000, split_seed: int = 0, **loader: Any) -> None:
        super().__init__(**loader)
        self.root = root
        self.val_size = val_size
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Download unless the files are there.

        Raises:
            UserError: The download failed; says how to place the files by hand.
        """
        try:
            self._open(train=True)
        except RuntimeError:
            self._download()

    def _download(self) -> None:
        try:
            self._open(train=True, download=True)
        except Exception as error:  # torchvision lets through whatever its mirrors answer
            raise UserError(
                f"data: {self.torchvision_name} is not below {self.root!r} and could not be downloaded "
                f"({type(error).__name__}: {error}). Without a network place by hand: {self.files}; or name the folder "
                "that has them with data.init_args.root."
            ) from error

    def build(self, stage: Stage) -> ImageArrays:
        """A split of the data set."""
        source = self._open(train=stage != "test")
        height, width = self.image_size
        image = torch.as_tensor(source.data).reshape(-1, height, width, self.in_channels)
        split = ImageArrays(image.permute(0, 3, 1, 2).contiguous(), torch.as_tensor(source.targets))
        if stage == "test":
            return split
        train, val = stratified_split(split.label, self.val_size, self.split_seed)
        return split.subset(train if stage == "train" else val)

    def _open(self, train: bool, download: bool = False) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.torchvision_name)(self.root, train=train, download=download)
