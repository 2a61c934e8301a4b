"""What all encoders that learn without labels share.

Shape legend: B batch, C channels, H height, W width, D features.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from toolkit.metrics.nearest_neighbours import NeighbourVote, bank_of, pixel_vectors
from toolkit.nn.augmentation import Augmentation, to_float
from toolkit.nn.backbone import features_of
from toolkit.nn.normalize import Normalize
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, ImageFeatures, Stage

BASELINE_BATCH = 500
"""Images that the baseline reads at once: a whole split of photographs does not fit into memory."""


def has_labels(data: Any) -> bool:
    """Whether the labels of a DataModule tell images apart: of a single class every vote would be right."""
    return getattr(data, "num_classes", None) != 1


class ImageEncoder(Task, ABC):
    """An encoder of images that learns without their labels.

    Labels only measure: `callbacks.online_knn.OnlineKNN`, which the command line adds, logs the monitored
    ``val/knn_acc``. The loss would choose badly, since that of BYOL is least for an encoder that has collapsed; where
    `has_labels` denies labels, nothing is chosen, and the last checkpoint is the result.
    Normalisation is part of the model, as in classification. The checkpoint says where the backbone lies in it, so that
    `callbacks.pretrained_backbone.PretrainedBackbone` can take it over into any task.

    Args:
        net: What is trained, the backbone within it under the name ``backbone``.
        pixel_mean: Mean of each channel in ``[0, 1]``, of the data; 0.5 if None.
        pixel_std: Standard deviation of each channel, likewise.
        augment: Keyed augmentation of what the loss sees.
        channels_last: Compute convolutions in channels-last memory format, often faster.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.
        scalars: Names of the values that `record` takes.
    """

    monitor = "val/knn_acc"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        augment: Augmentation | None = None,
        channels_last: bool = False,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        *,
        scalars: Sequence[str] = ("loss",),
    ) -> None:
        super().__init__(net, optimizer, scheduler, scheduler_config, scalars=scalars)
        self.normalize = Normalize(pixel_mean or [0.5], pixel_std or [0.5])
        self.augment = augment
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.net.to(memory_format=self.memory_format)

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part of the network that other tasks take over."""

    def network_input(self, image: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, uint8 or in ``[0, 1]``, normalised and of the network's dtype."""
        normalized: Tensor = self.normalize(to_float(image))
        return normalized.to(self.dtype, memory_format=self.memory_format)

    def encode(self, image: Tensor) -> Tensor:
        """Features ``(B, D)``, at least float32, of raw images ``(B, C, H, W)`` as they are."""
        features = features_of(self.backbone, self.network_input(image))
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def described(self, batch: ImageBatch, stage: Stage) -> ImageFeatures | None:
        """In evaluation, what `predict` returns; None in training."""
        return None if stage == "train" else self.predict_step(batch, 0)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageFeatures:
        """The backbone's features of the images as they are."""
        return ImageFeatures(self.encode(batch.image).float(), batch.index, batch.label != IGNORE_LABEL)

    def baseline(self, data: Any, stage: Stage) -> Baseline | None:
        """The same vote of neighbours, who are near if their standardised pixels are; None without labels."""
        if not has_labels(data):
            return None
        bank_image, bank_label = bank_of(data)
        normalize = copy.deepcopy(self.normalize).to(bank_image.device)  # data in memory may lie on the GPU
        vote = NeighbourVote(pixel_vectors(normalize, bank_image), bank_label)
        split, right, count = data.dataset(stage), 0, 0
        for index in torch.split(torch.arange(len(split)), BASELINE_BATCH):
            image, label = (part.to(bank_image.device) for part in split.read(index))
            known = label != IGNORE_LABEL
            right += int((vote(pixel_vectors(normalize, image)) == label)[known].sum())
            count += int(known.sum())
        return Baseline("pixels", {"knn_acc": right / count if count else math.nan})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say where the backbone is."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["backbone"] = next(f"{name}." for name, module in self.named_modules() if module is self.backbone)
