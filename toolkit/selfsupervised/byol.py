"""BYOL."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from toolkit.errors import UserError
from toolkit.losses.bootstrap import bootstrap_loss
from toolkit.selfsupervised.networks.projection_head import BootstrapPair
from toolkit.selfsupervised.two_views import TwoViews
from toolkit.types import ImageBatch, Stage, StepOutput


class BYOL(TwoViews):
    """Predict what a slow copy of oneself makes of the other view; there are no negatives.

    Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020. Departure: the
    sum of both directions is halved, so that the loss is a mean over views.

    Args:
        net: The backbone: a classifier's network, whose head is not used.
        projection: Widths of the projector's and of the predictor's layers; BatchNorm and ReLU after each but the last.
        momentum: Share of itself that the target keeps in each optimizer step, at first.
        final_momentum: What it grows to, along a cosine over the run (section 3.3); None: it stays.
        batch_norm: In projector and predictor.
        **options: Of `toolkit.selfsupervised.image_encoder.ImageEncoder`.

    Raises:
        UserError: A momentum outside ``[0, 1]``; in training, a batch of fewer than two images.
    """

    net: BootstrapPair

    def __init__(
        self,
        net: nn.Module,
        projection: Sequence[int] = (512, 128),
        momentum: float = 0.99,
        final_momentum: float | None = 1.0,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        if not 0 <= momentum <= 1 or not 0 <= (final_momentum or 0) <= 1:
            raise UserError(
                f"model.init_args: need momentum and final_momentum in [0, 1], got {momentum} and {final_momentum}."
            )
        super().__init__(BootstrapPair(net, projection, batch_norm), **options)
        self.momentum, self.final_momentum = momentum, final_momentum

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """The mean over both directions of prediction."""
        views = self.views(batch)
        self.check(views, stage)
        count = len(views.label)
        prediction = self.net.predict(views.image)
        target = self.net.project_target(views.image).roll(count, dims=0)  # each view beside the other's
        loss = bootstrap_loss(prediction, target).sum() / max(2 * count, 1)
        self.record(stage, count, loss=loss)
        return StepOutput(loss, self.described(batch, stage), weight=count)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and let the target follow: nothing else moves it."""
        super().optimizer_step(*args, **kwargs)
        self.net.move_target(self.target_momentum())

    def target_momentum(self) -> float:
        """Of the optimizer step that was just made."""
        if self.final_momentum is None:
            return self.momentum
        done = (self.trainer.global_step - 1) / self.trainer.estimated_stepping_batches
        left = (math.cos(math.pi * min(done, 1.0)) + 1) / 2  # from 1 to 0
        return self.final_momentum - (self.final_momentum - self.momentum) * left
