"""Batches of many unlabelled images and a few labelled ones."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.image import ImageDataModule, LabelledImages
from datamodules.sampler import BatchIndex
from datamodules.wrapped import WrappedImages
from toolkit.errors import UserError
from toolkit.keys import keyed_uniform, view_keys
from toolkit.types import IGNORE_LABEL, ImageBatch, SemiSupervisedBatch, Stage

CHOICE = 104
"""Stream of `toolkit.keys`."""


class UnlabelledAndLabelled(LabelledImages):
    """As long as the unlabelled split; each of its batches comes with labelled images drawn at random.

    Which ones is a function of the unlabelled samples' keys: the same on any number of ranks and after a resume.

    Args:
        unlabelled: The many.
        labelled: The few.
        ratio: Unlabelled images for each labelled one.
    """

    def __init__(self, unlabelled: LabelledImages, labelled: LabelledImages, ratio: int) -> None:
        super().__init__(labelled.label)
        self.unlabelled, self.labelled, self.ratio = unlabelled, labelled, ratio

    def __len__(self) -> int:
        return len(self.unlabelled)

    def __getitem__(self, batch: BatchIndex) -> SemiSupervisedBatch:  # type: ignore[override]
        self.unlabelled.seed = self.seed
        many = self.unlabelled[batch]
        key = view_keys(many.key[:: self.ratio], 0)  # of fixed places of the global batch, however many ranks share it
        index = (keyed_uniform(key, CHOICE)[:, 0] * len(self.labelled)).long()
        image, label = self.labelled.read(index)
        few = ImageBatch(image.to(many.image.device), label.to(many.label.device), index, key)
        readable = many.label != IGNORE_LABEL
        return SemiSupervisedBatch(many._replace(label=torch.full_like(many.label, IGNORE_LABEL)), few, readable)

    def read(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read labelled images."""
        return self.labelled.read(index)

    def to(self, device: torch.device) -> None:
        """Move both."""
        self.unlabelled.to(device)
        self.labelled.to(device)


class SemiSupervisedDataModule(WrappedImages):
    """A few labelled images beside many unlabelled ones. Validation, test and facts are the labelled source's.

    The labels of the unlabelled images are taken off: no task gets to see them.

    Args:
        source: The labelled images, such as a `LabelledSubsetDataModule`.
        unlabelled: Whose training images are to be learned from without their labels.
        batch_size: Unlabelled images in one training step, over all devices.
        labelled_batch_size: Labelled images in one, likewise; a divisor of ``batch_size``.
        **loader: ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: Images of another size, a batch size that is no multiple, a class without a labelled image.
    """

    def __init__(
        self,
        source: ImageDataModule,
        unlabelled: ImageDataModule,
        batch_size: int = 256,
        labelled_batch_size: int = 64,
        **loader: Any,
    ) -> None:
        super().__init__(source, batch_size=batch_size, **loader)
        self.unlabelled = unlabelled
        sizes = [(part.in_channels, *part.image_size) for part in (source, unlabelled)]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"data.init_args.unlabelled: images of {sizes[1]} (channels, height, width), the labelled ones are "
                f"{sizes[0]}; bring both to one size."
            )
        if labelled_batch_size < 1 or batch_size % labelled_batch_size:
            raise UserError(
                f"data.init_args.labelled_batch_size: need a divisor of batch_size {batch_size}, got "
                f"{labelled_batch_size}."
            )
        self.labelled_batch_size = labelled_batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of both.

        Raises:
            UserError: Labelled images that do not divide by the devices.
        """
        _, world_size = self._place()
        if self.labelled_batch_size % world_size:
            raise UserError(
                f"data.init_args.labelled_batch_size: {self.labelled_batch_size} does not divide by {world_size} "
                f"devices; write a multiple of {world_size}."
            )
        return super().train_dataloader()

    def prepare_data(self) -> None:
        """What both prepare."""
        self.source.prepare_data()
        self.unlabelled.prepare_data()

    def build(self, stage: Stage) -> LabelledImages:
        """A split; the training split is of both."""
        self.source.seed = self.seed
        split = self.source.build(stage)
        if stage != "train":
            return split
        if missing := set(range(self.num_classes)) - set(split.label.tolist()):
            names = ", ".join(self.class_names[number] for number in sorted(missing))
            raise UserError(f"data.init_args.source: no labelled training image of class {names}; label at least one.")
        many = self.unlabelled.build("train")
        return UnlabelledAndLabelled(many, split, self.batch_size // self.labelled_batch_size)
