"""Any data set with annotations in COCO's JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datamodules.annotated_folder import AnnotatedFilesDataModule, Splits
from datamodules.annotation_findings import OnInvalid
from datamodules.coco_annotations import CocoAnnotations
from toolkit.types import Stage


@dataclass
class CocoFiles:
    """An annotation file and its images.

    Args:
        annotations: The JSON.
        images: The folder that its file names are relative to.
    """

    annotations: str
    images: str


class CocoDetectionDataModule(AnnotatedFilesDataModule):
    """Boxes from COCO's JSON (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014), as it is.

    Ids may have gaps, images may have no object, boxes may stand around crowds; segmentations are not read. A class is
    known by its name: where the files of two splits number it differently, each is read with its own numbers, and
    predictions are written with those of ``train``. Invalid annotations are told with counts and names.

    Args:
        train: Annotations and images for training.
        val: Those for validation; held out of ``train`` if None.
        test: Those for test; held out of ``train`` if neither these nor those for validation are given.
        class_names: Categories that are detected, in this order; the others are left out. All of ``train`` if None.
        image_size: Height and width that images are resized to fit, with their proportions kept; or one number for
            both.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode and resize everything once and keep it; the batches are the same.
        on_invalid: Drop invalid annotations and images that are missing, or stop at them.
        on_unreadable: Stop at a file that cannot be read, naming it, or count it as an image without objects.
        val_size: Images held out for validation: a count, or as float a share.
        test_size: Likewise for test.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A file or folder is missing, no COCO JSON, no image to train on, names of no category, or with
            ``on_invalid: stop`` an invalid annotation.
    """

    def __init__(
        self,
        train: CocoFiles,
        val: CocoFiles | None = None,
        test: CocoFiles | None = None,
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
        given: dict[Stage, CocoFiles | None] = {"train": train, "val": val, "test": test}
        files = {
            stage: CocoAnnotations.of_split(stage, split.annotations, split.images)
            for stage, split in given.items()
            if split is not None
        }
        categories = files["train"].categories
        self.class_names = files["train"].chosen(class_names)
        ids = {name: key for key, name in categories.items()}
        self.category_ids = [ids[name] for name in self.class_names]
        images: Splits = {}
        for stage, annotations in files.items():
            images[stage] = annotations.read(self.class_names, ignore_others=len(self.class_names) < len(categories))
            annotations.findings.tell(on_invalid)
        self.hold(images, val_size, test_size if val is None else None, split_seed)

    def remedy(self, stage: Stage) -> str:
        """Which arguments name images."""
        if stage == "train":
            return "see that data.init_args.train.images is the folder that the file_name of the annotations starts in"
        more = (
            f", or data.init_args.{stage}_size to hold some out" if stage == "val" or "val" not in self._images else ""
        )
        return f"write data.init_args.{stage}: {{annotations: FILE, images: FOLDER}}{more}"
