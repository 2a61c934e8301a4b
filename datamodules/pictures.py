"""What all DataModules of images share: facts of the pixels, and splits that are read once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch

from datamodules.base import BaseDataModule, BatchedDataset
from toolkit.types import Stage

LARGEST_ON_DEVICE = 4 * 2**30
"""Bytes of images that are moved to the training device; more stay in the computer's memory."""


class Pictures(BatchedDataset, ABC):
    """Images and what is known of them; a batch comes with the keys of its samples."""

    seed: int = 0

    def to(self, device: torch.device) -> None:
        """Move what is kept to the training device, if that helps."""


Split = TypeVar("Split", bound=Pictures)


class PictureDataModule(BaseDataModule, ABC, Generic[Split]):
    """Images of named classes.

    A subclass builds the splits and sets the facts. In-memory splits are moved to the training device once, unless
    worker processes cut their batches.

    Args:
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.
    """

    class_names: Sequence[str]
    in_channels: int
    image_size: tuple[int, int]
    pixel_mean: Sequence[float]
    """Mean of each channel on the scale ``[0, 1]``."""
    pixel_std: Sequence[float]
    """Standard deviation of each channel, likewise."""

    def __init__(self, **loader: Any) -> None:
        super().__init__(**loader)
        self._splits: dict[Stage, Split] = {}

    @abstractmethod
    def build(self, stage: Stage) -> Split:
        """Read a split; called once for each."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def dataset(self, stage: Stage) -> Split:
        """The split of a stage, on the training device if it is in memory."""
        if stage not in self._splits:
            self._splits[stage] = self.build(stage)
        split = self._splits[stage]
        split.seed = self.seed
        if self.trainer is not None and self.num_workers == 0:
            split.to(self.trainer.strategy.root_device)
        return split
