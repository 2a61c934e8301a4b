"""A folder of images and a folder of their masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules.image_reader import Fit, ImageReader, existing, image_files, imagenet_statistics, size_pair
from datamodules.mask_files import MaskFiles, SegmentationFiles, read_mask
from datamodules.segmentation import LabelledPixels, SegmentationDataModule
from datamodules.splits import STAGE_OF_FOLDER, hold_out
from toolkit.errors import UserError
from toolkit.types import Stage

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
"""Of formats that keep every value as it is."""


class MaskedImage(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


class SegmentationFolderDataModule(SegmentationDataModule):
    """Images in ``<root>/images`` with masks in ``<root>/masks``, or both in ``<root>/{train,val,test}``.

    An image and its mask have the same name but for its ending. A mask is a grey or paletted PNG of class numbers. A
    single pair of folders is split here, seeded; with folders of splits, validation is held out of ``train`` where
    ``val`` is missing, and nothing is tested where ``test`` is missing. ``valid`` and ``validation`` do for ``val``,
    and capitals make no difference.

    Args:
        root: The folder.
        class_names: A name for each class, the first for the value 0; or a file with a name a line. By default the
            numbers up to the largest value of the training masks, which takes reading all of them.
        values: Grey value of each class; by default 0, 1, 2, ... ``[0, 255]`` for black and white masks.
        ignore_value: Grey value of pixels that count nowhere, unless it is one of ``values``.
        image_size: Height and width that images and masks are resized to, or one number for both.
        fit: "stretch" resizes all of an image; "crop" keeps its proportions and cuts out the middle.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode everything once and keep it; the batches are the same.
        val_size: Images held out for validation if there is no folder for it: a count, or as float a share.
        test_size: Likewise for test, out of a single pair of folders.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: Other folders, images without masks, or fewer than two classes.
    """

    def __init__(
        self,
        root: str,
        class_names: Sequence[str] | str | None = None,
        values: Sequence[int] | None = None,
        ignore_value: int | None = 255,
        image_size: int | tuple[int, int] = 256,
        fit: Fit = "stretch",
        in_channels: Literal[1, 3] = 3,
        in_memory: bool = False,
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
        self.pixel_mean, self.pixel_std = imagenet_statistics(in_channels)
        self._pairs = self._scan(val_size, test_size, split_seed)
        self.class_names = self._names(class_names, values, ignore_value)
        self._values = list(range(len(self.class_names))) if values is None else list(values)
        self._ignored = None if ignore_value in self._values else ignore_value
        self._check_classes()
        self._reader = ImageReader(self.image_size, in_channels, fit)

    def build(self, stage: Stage) -> LabelledPixels:
        """The files of a split, or their pixels."""
        pairs = self._pairs.get(stage)
        if not pairs:
            raise UserError(
                f"data: {str(self.root)!r} has no images to {stage} on; add the folders {self.root / stage / 'images'} "
                f"and masks beside it, or write data.init_args.{stage}_size for folders that are split here."
            )
        masks = MaskFiles([pair.mask for pair in pairs], self._values, self._ignored)
        files = SegmentationFiles([pair.image for pair in pairs], masks, self._reader)
        return files.in_memory() if self.in_memory else files

    def sample_name(self, index: int) -> str:
        """The path of a test image."""
        return str(self._pairs["test"][index].image)

    def _scan(self, val_size: int | float, test_size: int | float, split_seed: int) -> dict[Stage, list[MaskedImage]]:
        folders = {child.name: child for child in sorted(self.root.iterdir()) if child.is_dir()}
        stages: dict[Stage, Path] = {}
        for name, path in folders.items():
            if (stage := STAGE_OF_FOLDER.get(name.lower())) is None:
                continue
            if stage in stages:
                raise UserError(
                    f"data.init_args.root: {str(self.root)!r} has {stages[stage].name} and {name}, both for {stage}; "
                    "keep one of them."
                )
            stages[stage] = path
        if "images" not in folders and "train" not in stages:
            raise UserError(
                f"data.init_args.root: {str(self.root)!r} has the folders {sorted(folders)[:5]}; need images and "
                f"masks, such as {self.root / 'images' / '1.jpg'} and {self.root / 'masks' / '1.png'}, or train, val "
                "and test with both in each."
            )
        if "images" in folders:
            everything = _pairs(self.root)
            train, test = hold_out(everything, test_size, split_seed)
            pairs: dict[Stage, list[MaskedImage]] = {"train": train, "test": test}
        else:
            pairs = {stage: _pairs(folder) for stage, folder in stages.items()}
        if "val" not in pairs:
            pairs["train"], pairs["val"] = hold_out(pairs["train"], val_size, split_seed)
        return pairs

    def _names(
        self, given: Sequence[str] | str | None, values: Sequence[int] | None, ignored: int | None
    ) -> Sequence[str]:
        if isinstance(given, str):
            lines = existing(given, "data.init_args.class_names").read_text(encoding="utf-8").splitlines()
            return [line.strip() for line in lines if line.strip()]
        if given is not None:
            return list(given)
        if values is not None:
            return [str(number) for number in range(len(values))]
        found: set[int] = set()
        for pair in self._pairs["train"]:
            found.update(np.unique(read_mask(pair.mask)).tolist())
        found.discard(-1 if ignored is None else ignored)
        largest = max(found, default=0)
        if len(found) <= largest // 2:  # grey values for the eye, not numbers of classes
            raise UserError(
                f"data: the training masks have the values {sorted(found)[:10]}; write data.init_args.values: "
                f"{sorted(found)[:10]} if each is a class, or name all classes with data.init_args.class_names."
            )
        return [str(number) for number in range(largest + 1)]

    def _check_classes(self) -> None:
        names, values = self.class_names, self._values
        if self._ignored is not None and not 0 <= self._ignored <= 255:
            raise UserError(f"data.init_args.ignore_value: need a grey value in 0..255 or null, got {self._ignored}.")
        if len(values) != len(names) or len(set(values)) < len(values) or not all(0 <= v <= 255 for v in values):
            raise UserError(
                f"data.init_args.values: need a grey value in 0..255 for each of {len(names)} classes, got {values}."
            )
        if not 2 <= len(names) <= 250:
            found = np.unique(read_mask(self._pairs["train"][0].mask)).tolist()
            raise UserError(
                f"data: need 2 to 250 classes, got {list(names)[:5]}; the first training mask has the values "
                f"{found[:5]}. If 255 is a class and not to be ignored, write data.init_args.values: [0, 255]."
            )


def _pairs(folder: Path) -> list[MaskedImage]:
    """Images of ``folder/images`` and their masks of ``folder/masks``, which may lie in folders of the same names."""
    images, masks = folder / "images", folder / "masks"
    for needed in (images, masks):
        if not needed.is_dir():
            raise UserError(f"data.init_args.root: no folder {str(needed)!r}; need images and masks beside each other.")
    files = [path for path in image_files(masks) if path.suffix.lower() in MASK_SUFFIXES]
    by_name = {path.relative_to(masks).with_suffix(""): path for path in files}
    found = [(path, by_name.get(path.relative_to(images).with_suffix(""))) for path in image_files(images)]
    missing = [str(path.relative_to(folder)) for path, mask in found if mask is None]
    if missing or not found:
        first = masks / Path(missing[0]).relative_to("images").with_suffix(".png") if missing else None
        raise UserError(
            f"data.init_args.root: {len(missing)} of {len(found)} images in {str(images)!r} have no mask, such as "
            f"{', '.join(map(repr, missing[:3]))}; {first} should be there. Add the masks or move the images away."
            if missing
            else f"data.init_args.root: no images in {str(images)!r}."
        )
    return [MaskedImage(path, mask) for path, mask in found if mask is not None]
