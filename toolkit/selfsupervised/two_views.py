"""Learning from two views of each image. Shape legend: B batch, C channels, H height, W width, D features."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.gathered import gathered
from toolkit.keys import view_keys
from toolkit.selfsupervised.image_encoder import ImageEncoder
from toolkit.selfsupervised.networks.projection_head import ProjectedBackbone
from toolkit.types import IGNORE_LABEL, ImageBatch, Stage, StepOutput


class Views(NamedTuple):
    """Two views of each readable image of a batch, one after the other."""

    image: Tensor
    """``(2 B, C, H, W)``, augmented and normalised; the first B are the first views."""
    label: Tensor
    """``(B,)``, int64."""


class TwoViews(ImageEncoder, ABC):
    """A task whose loss compares two random views of each image.

    Both are augmented in one batch on the device, by keys of the sample and the view; the views of validation and test
    are the same in every epoch. Unreadable images have no views.
    """

    net: ProjectedBackbone

    @property
    def backbone(self) -> nn.Module:
        """The network without projector."""
        return self.net.backbone

    def views(self, batch: ImageBatch) -> Views:
        """Two views of each readable image."""
        readable = batch.label != IGNORE_LABEL
        image, label, key = batch.image[readable], batch.label[readable], batch.key[readable]
        image = torch.cat([image, image])
        if self.augment is not None:
            image = self.augment(image, torch.cat([view_keys(key, 0), view_keys(key, 1)]))
        return Views(self.network_input(image), label)

    def check(self, views: Views, stage: Stage) -> None:
        """Refuse to train on a batch that has nothing to compare."""
        if stage == "train" and len(views.label) < 2:
            raise UserError(
                f"data.init_args.batch_size: a step of {type(self).__name__} needs 2 or more readable images on each "
                f"device, and got {len(views.label)}; write a larger one, such as 256."
            )


class ComparedBatch(TwoViews, ABC):
    """Two views and a loss over all of the batch, on however many devices: no mean over samples.

    The projections of all ranks are gathered with their gradients, and every rank computes the loss of the whole. Ranks
    average gradients, so what they do equals one device with the whole batch (BatchNorm apart: set
    ``trainer.sync_batchnorm``). Accumulated batches are compared within themselves: accumulation does not make a larger
    batch.
    """

    is_mean_over_samples = False

    @abstractmethod
    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """From projections ``(N, P)`` of the views of all N samples to ``loss``, and what else is logged."""

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """The loss of the global batch."""
        views = self.views(batch)
        self.check(views, stage)
        projection = self.net(views.image)
        count = len(views.label)
        first, second = (gathered(self, part) for part in projection.tensor_split(2))
        if len(first) > 1:
            values = self.compare(first, second)
            self.record(stage, count, **values)
        else:  # the last batch of an evaluation may be of one image, which cannot be compared
            values = {"loss": first.sum() * 0}
        return StepOutput(values["loss"], self.described(batch, stage))
