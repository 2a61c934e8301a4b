"""A folder of images without labels."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.image_folder import ImageFolderDataModule, Labelled
from datamodules.image_reader import image_files
from toolkit.errors import UserError
from toolkit.types import Stage

CLASS_NAME = "image"
"""The one class that all images are of."""


class UnlabelledFolderDataModule(ImageFolderDataModule):
    """Images anywhere below ``root``, split here, or below ``<root>/{train,val,test}``, split by the user; no labels.

    For generative models and for learning without labels. What other folders are called does not matter. Every image is
    of one class called "image", so nothing that reads labels is measured. The arguments are those of
    `datamodules.image_folder.ImageFolderDataModule`.

    Raises:
        UserError: No such folder, no images, or images beside the folders of splits.
    """

    def _folders_of_splits(self) -> dict[Stage, Path]:
        stages = super()._folders_of_splits()
        first = next(image_files(self.root), None)  # those of the folder itself come first
        if stages and first is not None and first.parent == self.root:
            raise UserError(
                f"data.init_args.root: {str(self.root)!r} has {', '.join(folder.name for folder in stages.values())}, "
                f"and beside them images such as {first.name!r}; move those into a split, or elsewhere. If train is no "
                "split here, rename its folder."
            )
        return stages

    def _holds_split(self, train: Path) -> bool:
        return True

    def _classes(self, folder: Path) -> list[str]:
        if next(image_files(folder), None) is None:
            raise UserError(
                f"data.init_args.root: {str(folder)!r} holds no images, in itself or in folders below; name a folder "
                "with images, such as .jpg or .png."
            )
        return [CLASS_NAME]

    def _labelled(self, folder: Path, names: Sequence[str]) -> Labelled:
        return [(file, 0) for file in image_files(folder)]
