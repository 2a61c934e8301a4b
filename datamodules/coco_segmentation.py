"""Labels of pixels from any data set with segmentations in COCO's JSON."""

from collections.abc import Sequence
from typing import Any, Literal

from datamodules.annotation_findings import OnInvalid
from datamodules.coco_detection import CocoFiles
from datamodules.coco_masks import CocoMasks, CocoRegions
from datamodules.image_reader import Fit, ImageReader, imagenet_statistics, size_pair
from datamodules.mask_files import SegmentationFiles
from datamodules.segmentation import LabelledPixels, SegmentationDataModule
from datamodules.splits import hold_out
from toolkit.errors import UserError
from toolkit.types import Stage

MOST_CLASSES = 250
"""With the background, as many as a byte tells apart beside `datamodules.segmentation.IGNORED_BYTE`."""


class CocoSegmentationDataModule(SegmentationDataModule):
    """Polygons and run lengths of COCO's JSON (Lin et al., "Microsoft COCO", ECCV 2014) as a class for each pixel.

    Class 0 is the background, the categories follow. Where objects overlap, the smaller one is in front. Crowds count
    nowhere but where an object stands before them. The same files and mistakes as for `CocoDetectionDataModule`.

    Args:
        train: Annotations and images for training.
        val: Those for validation; held out of ``train`` if None.
        test: Those for test; held out of ``train`` if neither these nor those for validation are given.
        class_names: Categories that are told apart, in this order; the others are background. All of ``train`` if None.
        image_size: Height and width that images and masks are resized to, or one number for both.
        fit: "stretch" resizes all of an image; "crop" keeps its proportions and cuts out the middle.
        in_channels: 3 for RGB, 1 for grey; files of the other kind are converted.
        in_memory: Decode everything once and keep it; the batches are the same.
        on_invalid: Drop invalid annotations and images that are missing, or stop at them.
        val_size: Images held out for validation: a count, or as float a share.
        test_size: Likewise for test.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A file or folder is missing, no COCO JSON, names of no category, too many classes, or with
            ``on_invalid: stop`` an invalid annotation.
    """

    def __init__(
        self,
        train: CocoFiles,
        val: CocoFiles | None = None,
        test: CocoFiles | None = None,
        class_names: Sequence[str] | None = None,
        image_size: int | tuple[int, int] = 256,
        fit: Fit = "stretch",
        in_channels: Literal[1, 3] = 3,
        in_memory: bool = False,
        on_invalid: OnInvalid = "drop",
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.image_size = size_pair(image_size)
        self.in_channels = in_channels
        self.in_memory = in_memory
        self.pixel_mean, self.pixel_std = imagenet_statistics(in_channels)
        self._reader = ImageReader(self.image_size, in_channels, fit)
        given: dict[Stage, CocoFiles | None] = {"train": train, "val": val, "test": test}
        files = {
            stage: CocoRegions.of_split(stage, split.annotations, split.images)
            for stage, split in given.items()
            if split is not None
        }
        names = files["train"].chosen(class_names, MOST_CLASSES)
        self.class_names = ["background", *names]
        self._files: dict[Stage, SegmentationFiles] = {}
        for stage, annotations in files.items():
            images, regions = annotations.regions(names, len(names) < len(files["train"].categories))
            annotations.findings.tell(on_invalid)
            paths = [image.path for image in images]
            self._files[stage] = SegmentationFiles(paths, CocoMasks(images, regions), self._reader)
        if not self._files["train"]:
            raise UserError(
                "data: there is no image left to train on; see that data.init_args.train.images is the folder that the "
                "file_name of the annotations starts in."
            )
        self._hold_out("test", test_size if val is None and test is None else 0, split_seed)
        self._hold_out("val", val_size if val is None else 0, split_seed)

    def build(self, stage: Stage) -> LabelledPixels:
        """The files of a split, or their pixels."""
        files = self._files.get(stage)
        if not files:
            raise UserError(
                f"data: there are no images to {stage} on; write data.init_args.{stage}, or "
                f"data.init_args.{stage}_size to hold some out of train."
            )
        return files.in_memory() if self.in_memory else files

    def sample_name(self, index: int) -> str:
        """The path of a test image."""
        return str(self._files["test"].paths[index])

    def _hold_out(self, stage: Stage, size: int | float, split_seed: int) -> None:
        """Take a part of ``train`` for another split."""
        train = self._files["train"]
        if size:
            kept, held_out = hold_out(range(len(train)), size, split_seed)
            self._files["train"], self._files[stage] = train.subset(kept), train.subset(held_out)
