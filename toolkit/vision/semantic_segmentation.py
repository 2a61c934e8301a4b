"""Semantic segmentation: one label a pixel.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.losses.dice import dice_loss
from toolkit.metrics.segmentation import SegmentationScores
from toolkit.nn.augmentation import Augmentation, to_float
from toolkit.nn.lora import LoRA
from toolkit.precision import at_least_float32
from toolkit.task import SchedulerConfig
from toolkit.types import IGNORE_LABEL, SegmentationBatch, SegmentationPrediction, Stage, StepOutput
from toolkit.vision.image_task import ImageTask, check_class_weights, check_one_a_class


class SemanticSegmentation(ImageTask):
    """Cross entropy and Dice between a network's logits and one label a pixel.

    Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015; the sum of both
    losses as in Isensee et al., "nnU-Net", Nature Methods, 2021. Cross entropy is a mean over the labelled pixels. Dice
    is that of each image (`dice_loss`), and its mean over the images weighs each by its labelled pixels; without
    ignored ones all are equal. So both are means over the same pixels, and the loss is the same for one large batch as
    for its parts on several devices. With class weights a pixel counts as its class does. The loss of validation and
    test is without class weights and without an auxiliary head, so that runs compare.

    The arguments from ``num_classes`` to ``pixel_std`` describe the data; the command line links them from the
    DataModule.

    Args:
        net: Images ``(B, C, H, W)``, float32, normalised, to logits ``(B, K, H, W)``; in training it may also return a
            tuple of these and of an auxiliary head's.
        num_classes: K.
        class_names: A name for each class; the numbers as text if None.
        image_size: ``(H, W)`` to which `predict` resizes files.
        pixel_mean: Mean of each channel in ``[0, 1]``; a pretrained network's own goes first; 0.5 if None.
        pixel_std: Standard deviation of each channel, likewise.
        augment: Keyed augmentation of the training images; labels move with their pixels.
        cross_entropy_weight: Of cross entropy in the loss.
        dice_weight: Of Dice in the loss.
        auxiliary_weight: Of the auxiliary head's loss, if there is one (Zhao et al., "Pyramid Scene Parsing Network",
            CVPR 2017, section 3.3).
        class_weights: Weight of each class's pixels in the training loss.
        channels_last: Compute convolutions in channels-last memory format, often faster.
        layer_decay: By what the learning rate falls from one stage of the network to the one below; see
            `toolkit.nn.layer_decay`.
        lora: Train low-rank adapters in the backbone, and all that is new.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: Names or weights do not count K; weights of the losses below 0, or both 0.
    """

    monitor = "val/miou"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        augment: Augmentation | None = None,
        cross_entropy_weight: float = 1.0,
        dice_weight: float = 1.0,
        auxiliary_weight: float = 0.4,
        class_weights: Sequence[float] | None = None,
        channels_last: bool = False,
        layer_decay: float = 1.0,
        lora: LoRA | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        check_one_a_class(num_classes, class_names=class_names)
        check_class_weights(num_classes, class_weights)
        if min(cross_entropy_weight, dice_weight, auxiliary_weight) < 0 or cross_entropy_weight + dice_weight == 0:
            raise UserError(
                "model.init_args: need weights of 0 or more and one of cross_entropy_weight and dice_weight above 0, "
                f"got {cross_entropy_weight}, {dice_weight} and auxiliary_weight {auxiliary_weight}."
            )
        super().__init__(
            net,
            optimizer,
            scheduler,
            scheduler_config,
            metrics=MetricCollection({"scores": SegmentationScores(num_classes)}),
            scalars=("loss", "cross_entropy", "dice_loss"),
        )
        self.describe(num_classes, class_names, image_size, pixel_mean, pixel_std)
        self.augment = augment
        self.cross_entropy_weight, self.dice_weight = cross_entropy_weight, dice_weight
        self.auxiliary_weight = auxiliary_weight
        weights = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None  # (K,)
        self.register_buffer("class_weights", weights, persistent=False)
        self.prepare_network(channels_last, layer_decay, lora)

    def network_input(self, batch: SegmentationBatch, training: bool) -> tuple[Tensor, Tensor]:
        """The images as the network sees them, augmented if training, normalised; and the labels of their pixels.

        Returns:
            ``(B, C, H, W)``, of the network's dtype, and ``(B, H, W)``.
        """
        image, mask = batch.image, batch.mask
        if training and self.augment is not None:
            image, mask = self.augment.with_mask(image, mask, batch.key)
        normalized: Tensor = self.normalize(to_float(image))
        return normalized.to(self.dtype, memory_format=self.memory_format), mask

    def step(self, batch: SegmentationBatch, stage: Stage) -> StepOutput:
        """Loss and scores of a batch; pixels without a label count nowhere."""
        training = stage == "train"
        image, mask = self.network_input(batch, training)
        logits, auxiliary = self._logits(image)
        loss, cross_entropy, dice, weight = self._losses(logits, mask, training)
        if auxiliary is not None:
            loss = loss + self.auxiliary_weight * self._losses(auxiliary, mask, training)[0]
        self.record(stage, weight, loss=loss, cross_entropy=cross_entropy, dice_loss=dice)
        if training:
            return StepOutput(loss, weight=weight)
        prediction = _prediction(logits, batch)
        self.metrics(stage).update(prediction.mask, mask)
        return StepOutput(loss, prediction)

    def _logits(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's logits, and those of an auxiliary head if it has one and is training."""
        output = self.net(image)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        expected = (len(image), self.num_classes, *image.shape[2:])
        if logits.shape != expected:
            raise UserError(
                f"model.init_args.net: it returned shape {tuple(logits.shape)} for images {tuple(image.shape)}, the "
                f"data has {self.num_classes} classes; the network must return {expected}, one answer a pixel."
            )
        return at_least_float32(logits), None if auxiliary is None else at_least_float32(auxiliary)

    def _losses(self, logits: Tensor, mask: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The weighted sum, cross entropy and Dice, and the sum of the pixels' weights over which they are means."""
        weights = self.class_weights if training else None
        assert weights is None or isinstance(weights, Tensor)
        known = (mask != IGNORE_LABEL).to(logits.dtype)  # (B, H, W)
        pixel = known if weights is None else known * weights.to(logits.dtype)[mask.clamp(min=0)]
        of_image = pixel.sum(dim=(1, 2))  # (B,)
        weight = of_image.sum()
        total = weight.clamp(min=torch.finfo(logits.dtype).tiny)
        nats = F.cross_entropy(logits, mask, ignore_index=IGNORE_LABEL, reduction="none")  # (B, H, W)
        cross_entropy = (nats * pixel).sum() / total
        dice = (dice_loss(logits.softmax(dim=1), mask) * of_image).sum() / total
        return self.cross_entropy_weight * cross_entropy + self.dice_weight * dice, cross_entropy, dice, weight

    def predict_step(self, batch: SegmentationBatch, batch_idx: int) -> SegmentationPrediction:
        """The likeliest class of each pixel of raw images."""
        return _prediction(self._logits(self.network_input(batch, training=False)[0])[0], batch)


def _prediction(logits: Tensor, batch: SegmentationBatch) -> SegmentationPrediction:
    """Confidence is 0 where nothing of an image is labelled, as of a file that could not be read."""
    best = logits.softmax(dim=1).float().max(dim=1)  # (B, H, W)
    known = (batch.mask != IGNORE_LABEL).flatten(1).any(dim=1)  # (B,)
    return SegmentationPrediction(best.indices, best.values * known[:, None, None], batch.index)
