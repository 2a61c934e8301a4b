"""Generative adversarial networks. Shape legend: B batch, Z code dimensions, C channels, H height, W width."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.generative.image_generator import CodeGenerator, evaluation_batches
from toolkit.generative.networks.adversarial_pair import AdversarialPair
from toolkit.keys import keyed_normal, keyed_uniform
from toolkit.losses.adversarial import AdversarialLoss
from toolkit.losses.discriminator_penalty import DiscriminatorPenalty
from toolkit.losses.non_saturating import NonSaturatingLoss
from toolkit.manual_task import ManualTask
from toolkit.metrics.frechet import FrechetDistance
from toolkit.nn.augmentation import to_float
from toolkit.precision import at_least_float32
from toolkit.task import SchedulerConfig
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, ImageScore, Stage, StepOutput

DISCRIMINATOR, GENERATOR = 0, 1
"""Places of the optimizers; also streams of codes."""
BETWEEN = 2
"""Stream of the points at which a penalty looks."""
POOLED = 8
"""Side of the thumbnails whose means and covariances validation compares."""


class RealImages(NamedTuple):
    """What a player sees of a batch."""

    image: Tensor
    """``(B, C, H, W)``, in ``[-1, 1]``."""
    label: Tensor
    """``(B,)``, int64."""
    key: Tensor
    """``(B,)``, int64, of which codes are drawn."""


class GAN(ManualTask, CodeGenerator):
    """A generator against a discriminator.

    Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014. One training step is one batch: it is dealt to
    ``critic_steps`` updates of the discriminator, and the images of the last of these, with new codes, to one update of
    the generator. For an average of the generator's weights, which validation, pictures and checkpoint then use, add
    the callback `EMA`. Images are in ``[-1, 1]``.

    There is no loss that says which generator is best. Without a classifier (see ``benchmarks/generative_scores.py``),
    validation reports the Fréchet distance of pixels averaged to 8 x 8: too coarse to rank good generators, but it
    finds a collapsed or diverged one.

    Args:
        net: Both networks; they say whether images have classes.
        loss: The game; non-saturating if None.
        penalty: On the discriminator's slope.
        critic_steps: Updates of the discriminator in a training step; ``data.batch_size`` is divided among them.
        num_classes: Of the data.
        class_names: Of the data.
        in_channels: C.
        image_size: ``(H, W)``.
        optimizer: Of the generator; Adam as in DCGAN (2e-4, betas 0.5 and 0.999) if None.
        discriminator_optimizer: Likewise.
        scheduler: Of both; constant learning rates if None.
        scheduler_config: When the schedulers step.
        gradient_clip_val: Largest norm of each network's gradient; none if None.
        accumulate: Parts that each update's batch is computed in.

    Raises:
        UserError: ``critic_steps`` is not positive; in training, a batch with fewer images than parts.
    """

    net: AdversarialPair
    monitor = "val/frechet_pixels"
    mode = "min"

    def __init__(
        self,
        net: AdversarialPair,
        loss: AdversarialLoss | None = None,
        penalty: DiscriminatorPenalty | None = None,
        critic_steps: int = 1,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        optimizer: OptimizerCallable | None = None,
        discriminator_optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        gradient_clip_val: float | None = None,
        accumulate: int = 1,
    ) -> None:
        if critic_steps < 1:
            raise UserError(f"model.init_args.critic_steps: need at least 1, got {critic_steps}.")
        side = (min(POOLED, image_size[0]), min(POOLED, image_size[1]))
        super().__init__(
            net,
            gradient_clip_val=gradient_clip_val,
            accumulate=accumulate,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_config=scheduler_config,
            metrics=MetricCollection({"frechet_pixels": FrechetDistance(in_channels * side[0] * side[1])}),
            scalars=("loss", "discriminator_loss"),
        )
        self.pooled = side
        self.loss = loss or NonSaturatingLoss()
        self.penalty = penalty
        self.critic_steps = critic_steps
        self.discriminator_optimizer = discriminator_optimizer
        self.is_conditional = net.num_classes is not None
        self.class_names = list(class_names or map(str, range(num_classes or 0)))

    # The game ---------------------------------------------------------------------------------------------------------

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """A round of the game in training; in evaluation one look at it, and thumbnails of both kinds."""
        if stage == "train":
            return self._play(batch)
        everything = self._real(batch)
        logit = self._logit(everything.image, everything.label)
        readable = batch.label != IGNORE_LABEL
        score = ImageScore(logit.float(), batch.index, readable)
        real = RealImages(*(field[readable] for field in everything))
        if len(real.image) == 0:
            return StepOutput(logit.new_zeros(()), score)
        fake = self._fake(real, GENERATOR)
        fake_logit = self._logit(fake, real.label)
        loss = self.loss.generator(fake_logit)
        against = self.loss.discriminator(logit[readable], fake_logit)
        self.record(stage, len(fake), loss=loss, discriminator_loss=against)
        self.metrics(stage).update(real=self._thumbnails(real.image), fake=self._thumbnails(fake))
        return StepOutput(loss, score)

    def _play(self, batch: ImageBatch) -> StepOutput:
        readable = batch.label != IGNORE_LABEL
        real = self._real(ImageBatch(*(field[readable] for field in batch)))
        parts = self.critic_steps * self.accumulate
        if len(real.image) < parts:
            raise UserError(
                f"data.init_args.batch_size: a batch of {len(real.image)} images cannot be dealt to critic_steps "
                f"{self.critic_steps} times accumulate {self.accumulate}; need at least {parts}."
            )
        # Every parts-th image, so that an update has the same images on however many ranks.
        pieces = [RealImages(*(field[first::parts] for field in real)) for first in range(parts)]
        updates = [pieces[first : first + self.accumulate] for first in range(0, parts, self.accumulate)]
        losses = [self.descend(DISCRIMINATOR, self._discriminator_loss, update) for update in updates]
        loss = self.descend(GENERATOR, self._generator_loss, updates[-1])
        self.record("train", len(real.image), loss=loss, discriminator_loss=torch.stack(losses).mean())
        return StepOutput(loss)

    def _discriminator_loss(self, real: RealImages) -> Tensor:
        with torch.no_grad():
            fake = self._fake(real, DISCRIMINATOR)
        loss = self.loss.discriminator(self._logit(real.image, real.label), self._logit(fake, real.label))
        if self.penalty is None:
            return loss
        uniform = keyed_uniform(real.key, BETWEEN)[:, 0]
        with torch.autocast(self.device.type, enabled=False):  # slopes of slopes underflow in 16 bits
            fake = fake.to(real.image.dtype)
            penalty: Tensor = self.penalty(lambda image: self._logit(image, real.label), real.image, fake, uniform)
        return loss + penalty

    def _generator_loss(self, real: RealImages) -> Tensor:
        return self.loss.generator(self._logit(self._fake(real, GENERATOR), real.label))

    def _real(self, batch: ImageBatch) -> RealImages:
        image = (2 * to_float(batch.image) - 1).to(self.dtype)
        return RealImages(image, batch.label.clamp(min=0), batch.key)

    def _fake(self, real: RealImages, stream: int) -> Tensor:
        image: Tensor = self.net.generate(self._code(real.key, stream), real.label if self.is_conditional else None)
        if image.shape != real.image.shape:
            raise UserError(
                f"model.init_args.net: it generates {tuple(image.shape)} where the data has {tuple(real.image.shape)}."
            )
        return image

    def _code(self, key: Tensor, stream: int) -> Tensor:
        return keyed_normal(key, stream, self.net.latent_dim).to(self.dtype)

    def _logit(self, image: Tensor, label: Tensor) -> Tensor:
        # a penalty's points are float32, also where the weights are not
        return at_least_float32(self.net.discriminate(image.to(self.dtype), label if self.is_conditional else None))

    def _thumbnails(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(image.float(), self.pooled).flatten(1)  # (B, C * 8 * 8)

    # What is drawn and predicted --------------------------------------------------------------------------------------

    def codes(self, key: Tensor) -> Tensor:
        """Codes drawn by key."""
        return self._code(key, GENERATOR)

    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Images of codes, in ``[0, 1]``."""
        image: Tensor = self.net.generate(code, label)
        return (image + 1) / 2

    def baseline(self, data: Any, stage: Stage) -> Baseline:
        """A generator that has collapsed to the mean image: the distance is the variance of the real ones."""
        real = [
            self._thumbnails(self._real(batch).image[batch.label != IGNORE_LABEL])
            for batch in evaluation_batches(data, stage)
        ]
        return Baseline("the mean image", {"frechet_pixels": float(torch.cat(real).double().var(dim=0).sum())})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageScore:
        """How real the discriminator takes each image to be: its logit."""
        real = self._real(batch)
        logit = self._logit(real.image, real.label)
        return ImageScore(logit.float(), batch.index, batch.label != IGNORE_LABEL)

    # Optimizers -------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The discriminator's, then the generator's."""
        wanted = (self.discriminator_optimizer, self.optimizer)
        players = (self.net.discriminator, self.net.generator)
        made = []
        for build, player in zip(wanted, players, strict=True):
            parameters = list(player.parameters())
            optimizer = build(parameters) if build else torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))
            made.append(self._scheduled(optimizer))
        return made
