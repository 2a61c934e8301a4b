"""DataModules that show another one's images in part."""

from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.image import ImageDataModule, LabelledImages
from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, Stage


class WrappedImages(ImageDataModule, ABC):
    """Images of another DataModule, with its facts; a subclass says which.

    Args:
        source: Where the images come from. Its batch size and workers do not matter.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    def __init__(self, source: ImageDataModule, **loader: Any) -> None:
        super().__init__(**loader)
        self.source = source
        self.class_names, self.in_channels, self.image_size = source.class_names, source.in_channels, source.image_size
        self.pixel_mean, self.pixel_std = source.pixel_mean, source.pixel_std

    def prepare_data(self) -> None:
        """What the source prepares."""
        self.source.prepare_data()

    def build(self, stage: Stage) -> LabelledImages:
        """The source's split."""
        return self.source.build(stage)

    def sample_name(self, index: int) -> str:
        """The source's: its test split is shown whole and in its order."""
        return self.source.sample_name(index)

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """The source's, likewise."""
        return self.source.unreadable(indices)


class SomeImages(LabelledImages):
    """Chosen samples of a split.

    Args:
        split: All of them.
        index: ``(N,)``, int64, the chosen ones' numbers; a number may be there twice.
        label: ``(N,)``, int64, their labels; by default those of the split.
    """

    def __init__(self, split: LabelledImages, index: Tensor, label: Tensor | None = None) -> None:
        super().__init__(split.label[index.to(split.label.device)] if label is None else label)
        self.split, self.index = split, index

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Read from the whole split."""
        image, label = self.split.read(self.index[index.to(self.index.device)])
        own = self.label[index.to(self.label.device)].to(label.device)
        return image, own.where(label != IGNORE_LABEL, IGNORE_LABEL)

    def to(self, device: torch.device) -> None:
        """Move the whole split."""
        self.split.to(device)


class LabelledSubsetDataModule(WrappedImages):
    """A few labelled training images, as many of each class; validation and test whole.

    Args:
        source: Where the images come from.
        labels_per_class: Training images kept of each class.
        subset_seed: Which are kept; None: it follows the run's seed, so that a spread over seeds includes the choice.
        repeats: How often each is seen in an epoch, each time augmented anew.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A class with fewer images than are to be kept.
    """

    def __init__(
        self,
        source: ImageDataModule,
        labels_per_class: int,
        subset_seed: int | None = None,
        repeats: int = 1,
        **loader: Any,
    ) -> None:
        super().__init__(source, **loader)
        if labels_per_class < 1 or repeats < 1:
            raise UserError(f"data: need labels_per_class >= 1 and repeats >= 1, got {labels_per_class} and {repeats}.")
        self.labels_per_class, self.subset_seed, self.repeats = labels_per_class, subset_seed, repeats

    def build(self, stage: Stage) -> LabelledImages:
        """A split; of the training split the chosen samples."""
        split = self.source.build(stage)
        if stage != "train":
            return split
        seed = self.seed if self.subset_seed is None else self.subset_seed
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        chosen = []
        for number, name in enumerate(self.class_names):
            mine = order[split.label[order] == number][: self.labels_per_class]
            if len(mine) < self.labels_per_class:
                raise UserError(
                    f"data.init_args.labels_per_class: class {name!r} has {len(mine)} labelled training images, fewer "
                    f"than {self.labels_per_class}; label more, or ask for fewer."
                )
            chosen.append(mine)
        return SomeImages(split, torch.cat(chosen).repeat(self.repeats))


class OneClassDataModule(WrappedImages):
    """Training on the images of one class only; in validation and test all others are anomalies.

    The labels become 0 (``normal``) and 1 (``anomalous``).

    Args:
        source: Where the images come from.
        normal: Name of the class that is normal.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such class.
    """

    def __init__(self, source: ImageDataModule, normal: str, **loader: Any) -> None:
        super().__init__(source, **loader)
        if normal not in source.class_names:
            raise UserError(f"data.init_args.normal: no class {normal!r}; choose from {', '.join(source.class_names)}.")
        self.normal = list(source.class_names).index(normal)
        self.class_names = ("normal", "anomalous")

    def build(self, stage: Stage) -> LabelledImages:
        """A split; of the training split the normal images."""
        split = self.source.build(stage)
        label = (split.label != self.normal).long()
        index = (label == 0).nonzero()[:, 0] if stage == "train" else torch.arange(len(label))
        return SomeImages(split, index, label[index])
