"""ImageNet in folder layout."""

from typing import Any, ClassVar, Literal

from datamodules.image_folder import ImageFolderDataModule
from toolkit.types import Stage


class ImageNetDataModule(ImageFolderDataModule):
    """ImageNet (ILSVRC 2012): ``<root>/train/n01440764/...`` and ``<root>/val/n01440764/...``.

    Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015. It cannot be had without an
    account: get the archives from image-net.org and unpack each class into a folder of its name. The labels of the test
    set are not public, so the official validation set is the test split, and validation is held out of ``train``.

    Args:
        root: The folder.
        image_size: Height and width that images are resized and cropped to; augmentation usually crops smaller ones.
        on_unreadable: Stop at a file that cannot be read, naming it, or skip and count it.
        val_size: Training images held out for validation: a count, or as float a share.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such folder, no images, or splits with other classes.
    """

    stage_of_folder: ClassVar[dict[str, Stage]] = {"train": "train", "val": "test"}

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 256,
        on_unreadable: Literal["error", "skip"] = "error",
        val_size: int | float = 0.01,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(
            root, image_size, on_unreadable=on_unreadable, val_size=val_size, split_seed=split_seed, **loader
        )
        if len(self.class_names) == 1000:
            self.class_names = _readable_names()


def _readable_names() -> list[str]:
    """Names of the thousand classes, in the order of their folders' names."""
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
