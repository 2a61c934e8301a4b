"""A folder of images, one folder a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.image import ImageDataModule, ImageFiles, LabelledImages
from datamodules.image_reader import ImageReader, existing, image_files, imagenet_statistics, size_pair
from datamodules.splits import STAGE_OF_FOLDER, hold_out
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, ImageBatch, Stage

Labelled = list[tuple[Path, int]]
"""Files with their class numbers."""


class ImageFolderDataModule(ImageDataModule):
    """Images in ``<root>/<class>/...``, split here, or in ``<root>/{train,val,test}/<class>/...``, split by the user.

    A single folder is split stratified and seeded. With folders of splits, validation is held out of ``train`` where
    ``val`` (or ``valid``, ``validation``) is missing, and nothing is tested where ``test`` is missing.

    Args:
        root: The folder.
        image_size: Height and width that images are resized and cropped to, or one number for both.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode everything once and keep it; the batches are the same.
        on_unreadable: Stop at a file that cannot be read, naming it, or skip and count it.
        val_size: Images held out for validation if there is no folder for it: a count, or as float a share.
        test_size: Likewise for test, out of a single folder.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such folder, no images, fewer than two classes, splits with other classes, or images in other
            folders beside splits.
    """

    stage_of_folder: ClassVar[dict[str, Stage]] = STAGE_OF_FOLDER
    """Names of folders of splits, in lower case."""

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 224,
        in_channels: Literal[1, 3] = 3,
        in_memory: bool = False,
        on_unreadable: Literal["error", "skip"] = "error",
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.root = existing(root, "data.init_args.root")
        self.image_size = size_pair(image_size)
        self.in_channels = in_channels
        self.in_memory = in_memory
        self.on_unreadable = on_unreadable
        self.pixel_mean, self.pixel_std = imagenet_statistics(in_channels)
        self.class_names, self._files = self._scan(val_size, test_size, split_seed)
        self._reader = ImageReader(self.image_size, in_channels)
        self._skipped: set[tuple[str, int]] = set()

    def build(self, stage: Stage) -> LabelledImages:
        """The files of a split, or their pixels."""
        files = self._split(stage)
        return files.in_memory() if self.in_memory else files

    def _split(self, stage: Stage) -> ImageFiles:
        files = self._files.get(stage)
        if not files:
            raise UserError(
                f"data: {str(self.root)!r} has no images to {stage} on; add a folder {self.root / stage}, or write "
                f"data.init_args.{stage}_size for a folder that is split here."
            )
        label = torch.tensor([label for _, label in files])
        return ImageFiles([path for path, _ in files], label, self._reader, self.on_unreadable == "skip")

    def _scan(
        self, val_size: int | float, test_size: int | float, split_seed: int
    ) -> tuple[list[str], dict[Stage, Labelled]]:
        """Class names, and the files of each split."""
        stages = self._folders_of_splits()
        names = self._classes(stages.get("train", self.root))
        files = {stage: self._labelled(folder, names) for stage, folder in stages.items()}
        if not stages:
            everything = self._labelled(self.root, names)
            files["train"], files["test"] = _held_out(everything, test_size, split_seed)
        if "val" not in files:
            files["train"], files["val"] = _held_out(files["train"], val_size, split_seed)
        return names, files

    def _folders_of_splits(self) -> dict[Stage, Path]:
        """The folder of each split; none where the root holds the classes, of which one may be called train."""
        folders = _folders_with_images(self.root)
        is_split = any(folder.name.lower() == "train" and self._holds_split(folder) for folder in folders)
        stages: dict[Stage, Path] = {}
        unknown: list[str] = []
        for folder in folders if is_split else ():
            stage = self.stage_of_folder.get(folder.name.lower())
            if stage is None or stage in stages:
                unknown.append(folder.name)
            else:
                stages[stage] = folder
        if unknown:
            raise UserError(
                f"data.init_args.root: {str(self.root)!r} has {', '.join(folder.name for folder in stages.values())}, "
                f"and beside them folders with images that are no further splits: {unknown[:5]}; move those elsewhere, "
                f"or call splits {', '.join(self.stage_of_folder)}. If train is no split here, rename its folder."
            )
        return stages

    def _holds_split(self, train: Path) -> bool:
        """Whether a folder of images called train is a split, and no class."""
        return bool(_folders_with_images(train))

    def _classes(self, folder: Path) -> list[str]:
        """Names of the folders that hold images, sorted."""
        names = [child.name for child in _folders_with_images(folder)]
        if len(names) < 2:
            loose = 0 if names else sum(1 for _ in image_files(folder))
            none = f"no class folder with images and {loose} images in all"
            found = f"one class only ({names[0]!r})" if names else none
            raise UserError(
                f"data.init_args.root: {str(folder)!r} has {found}; need a folder for each of two or more classes, "
                f"such as {folder / 'ant' / '1.jpg'} and {folder / 'bee' / '1.jpg'}; images without classes are read "
                "by UnlabelledFolderDataModule."
            )
        return names

    def _labelled(self, folder: Path, names: Sequence[str]) -> Labelled:
        """All images of a folder of classes."""
        found = {child.name for child in folder.iterdir() if child.is_dir() and next(image_files(child), None)}
        if unknown := sorted(found - set(names)):
            raise UserError(
                f"data.init_args.root: {str(folder)!r} has classes that the training folder has not: {unknown[:5]}; "
                f"training has {list(names[:5])}{'...' if len(names) > 5 else ''}."
            )
        return [(file, number) for number, name in enumerate(names) for file in image_files(folder / name)]

    def sample_name(self, index: int) -> str:
        """The path of a test image."""
        return str(self._files["test"][index][0])

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why test images cannot be read."""
        files = self._split("test")
        return {index: reason for index in indices if (reason := files.reason(index))}

    def on_before_batch_transfer(self, batch: ImageBatch, dataloader_idx: int) -> ImageBatch:
        """Tell of each skipped file once, in the training process, whoever read it."""
        if self.on_unreadable == "skip" and self.trainer is not None:
            stage: Stage = "train" if self.trainer.training else "test" if self.trainer.testing else "val"
            for index in batch.index[batch.label == IGNORE_LABEL].tolist():
                self._tell_skipped(stage, index)
        return batch

    def _tell_skipped(self, stage: Stage, index: int) -> None:
        if (stage, index) not in self._skipped:
            self._skipped.add((stage, index))
            path = self._files[stage][index][0]
            rank_zero_warn(f"data: skipped {str(path)!r}, which cannot be read; {len(self._skipped)} skipped so far.")


def _folders_with_images(folder: Path) -> list[Path]:
    """Those directly in a folder that hold images, sorted; hidden ones are left out."""
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    return [child for child in children if next(image_files(child), None)]


def _held_out(files: Labelled, size: int | float, split_seed: int) -> tuple[Labelled, Labelled]:
    return hold_out(files, size, split_seed, torch.tensor([label for _, label in files]))
