"""A folder in the layout of Pascal VOC."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.annotated_folder import AnnotatedFilesDataModule, Splits
from datamodules.annotation_findings import Findings, OnInvalid
from datamodules.image_reader import existing, image_files
from datamodules.voc_annotations import VocFile, annotated_images, read_voc_file
from toolkit.errors import UserError
from toolkit.types import Stage

FOLDERS = ("JPEGImages", "Annotations")


class VocDetectionDataModule(AnnotatedFilesDataModule):
    """Boxes from Pascal VOC's folders ``JPEGImages``, ``Annotations`` and ``ImageSets/Main/{train,val,test}.txt``.

    An image and its XML file are known by their name without ending. ``trainval.txt``, less what the other lists name,
    stands in for ``train.txt``; with no list at all, the annotated images are split here. Without ``val.txt``
    validation is held out of the training images, and without ``test.txt`` nothing is tested.

    Objects marked ``difficult`` are treated as boxes around crowds: nothing learns from them, and a detection there
    counts neither as right nor as wrong. That is VOC's rule, but for the overlap, which is measured as COCO does it for
    crowds, as part of the detection.

    Args:
        root: The folder.
        class_names: Names of the classes that are detected, in this order; objects of others count as invalid. All that
            are found, sorted, if None.
        image_size: Height and width that images are resized to fit, with their proportions kept; or one number for
            both.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode and resize everything once and keep it; the batches are the same.
        on_invalid: Drop invalid annotations and images that are missing, or stop at them.
        on_unreadable: Stop at a file that cannot be read, naming it, or count it as an image without objects.
        val_size: Images held out for validation if there is no list of them: a count, or as float a share.
        test_size: Likewise for test, if there are no lists at all.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A folder is missing, a name of no class, there is no image to train on, or with ``on_invalid: stop``
            an invalid annotation.
    """

    def __init__(
        self,
        root: str,
        class_names: Sequence[str] | None = None,
        image_size: int | tuple[int, int] = 512,
        in_channels: Literal[1, 3] = 3,
        in_memory: bool = False,
        on_invalid: OnInvalid = "drop",
        on_unreadable: Literal["error", "skip"] = "error",
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(image_size, in_channels, in_memory, on_unreadable, **loader)
        self.root = existing(root, "data.init_args.root")
        lists, split_here = _lists(self.root)
        xml = {
            name: read_voc_file(self.root / "Annotations" / f"{name}.xml") for names in lists.values() for name in names
        }
        found = _found_names(xml.values())
        self.class_names = list(class_names) if class_names else found
        if not self.class_names:
            raise UserError(
                f"data.init_args.root: no object in {str(self.root / 'Annotations')!r} has a name; need XML files with "
                "<object><name>...</name><bndbox>...</bndbox></object>."
            )
        unknown = [name for name in self.class_names if name not in found]
        if unknown or len(set(self.class_names)) < len(self.class_names):
            raise UserError(
                f"data.init_args.class_names: need different names out of {', '.join(found[:20])}"
                f"{', ...' if len(found) > 20 else ''}, got {self.class_names}."
            )
        self.category_ids = list(range(1, len(self.class_names) + 1))
        folder = self.root / "JPEGImages"
        # the files of the folder itself go before those of the same name below it
        stored = {path.stem: path for path in sorted(image_files(folder), key=lambda path: -len(path.parts))}
        images: Splits = {}
        for stage, names in lists.items():
            findings = Findings(str(self.root / "Annotations") if split_here else f"{self.root.name}, {stage}")
            images[stage] = annotated_images(names, xml, folder, stored, list(self.class_names), findings)
            findings.tell(on_invalid)
        self.hold(images, val_size, test_size if split_here else None, split_seed)

    def remedy(self, stage: Stage) -> str:
        """Which lists name images."""
        if stage == "train":
            return (
                "see that JPEGImages holds the images that Annotations, ImageSets/Main/train.txt, or trainval.txt and "
                "no other list name"
            )
        return f"write ImageSets/Main/{stage}.txt, or, where there is no train.txt, data.init_args.{stage}_size"


def _lists(root: Path) -> tuple[dict[Stage, list[str]], bool]:
    """Names of the files of each split, and whether all are in one that is to be split."""
    for name in FOLDERS:
        if not (root / name).is_dir():
            found = ", ".join(sorted(child.name for child in root.iterdir())[:10]) or "nothing"
            raise UserError(
                f"data.init_args.root: need the folders JPEGImages and Annotations in {str(root)!r}, and where there "
                f"is a split the lists ImageSets/Main/train.txt, val.txt and test.txt; found {found}."
            )
    stages: tuple[Stage, ...] = ("train", "val", "test")
    paths = {stage: root / "ImageSets" / "Main" / f"{stage}.txt" for stage in stages}
    whole = root / "ImageSets" / "Main" / "trainval.txt"
    if not paths["train"].is_file() and whole.is_file():
        paths["train"] = whole
    if not paths["train"].is_file():
        if others := [path.name for path in paths.values() if path.is_file()]:
            raise UserError(
                f"data.init_args.root: {str(whole.parent)!r} has {', '.join(others)}, but neither train.txt nor "
                "trainval.txt; add one, or remove the lists to have all images split here."
            )
        return {"train": sorted(path.stem for path in (root / "Annotations").glob("*.xml"))}, True
    # A line may go on with a number, as in VOC's own lists of one class.
    lines = {stage: path.read_text().splitlines() for stage, path in paths.items() if path.is_file()}
    names = {stage: [line.split()[0] for line in text if line.strip()] for stage, text in lines.items()}
    if paths["train"] == whole:
        taken = {name for stage in stages[1:] for name in names.get(stage, [])}
        names["train"] = [name for name in names["train"] if name not in taken]
    for one, other in combinations(names, 2):
        if common := sorted(set(names[one]) & set(names[other])):
            rank_zero_warn(
                f"data: {paths[one].name} and {paths[other].name} of {str(whole.parent)!r} both have "
                f"{', '.join(common[:3])}{', ...' if len(common) > 3 else ''} ({len(common)} in all), which makes "
                "scores too good; take what is in both out of one."
            )
    return names, False


def _found_names(files: Iterable[VocFile | None]) -> list[str]:
    return sorted({item.name for file in files if file is not None for item in file.objects if item.name})
