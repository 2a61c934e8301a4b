"""Image classification: one label an image.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.metrics.classification import classification_metrics
from toolkit.metrics.classifier_scores import Reading
from toolkit.nn.augmentation import Augmentation, Mixing, to_float
from toolkit.nn.lora import LoRA
from toolkit.precision import at_least_float32
from toolkit.task import SchedulerConfig
from toolkit.types import IGNORE_LABEL, ImageBatch, ImagePrediction, Stage, StepOutput
from toolkit.vision.image_task import ImageTask, check_class_weights, check_one_a_class


class ImageClassification(ImageTask):
    """Cross entropy between a network's logits and one label an image.

    Training loss: cross entropy with label smoothing (Szegedy et al., "Rethinking the Inception Architecture", CVPR
    2016, eq. 7), class weights, and mixup or CutMix, averaged over the readable samples. The loss of validation and
    test is the plain cross entropy whatever the training adds, so that runs compare. Augmentation runs on the device,
    for each sample by its own key; normalisation is part of the model, so a checkpoint predicts on raw pixels.

    The arguments from ``num_classes`` to ``pixel_std`` describe the data; the command line links them from the
    DataModule.

    Args:
        net: Images ``(B, C, H, W)``, float32, normalised, to logits ``(B, K)``.
        num_classes: K.
        class_names: A name for each class; the numbers as text if None.
        image_size: ``(H, W)`` to which `predict` resizes files.
        pixel_mean: Mean of each channel in ``[0, 1]``; a pretrained network's own goes first; 0.5 if None.
        pixel_std: Standard deviation of each channel, likewise.
        augment: Keyed augmentation of the training images.
        mix: Mixup or CutMix of the augmented training images.
        label_smoothing: Share of the target spread over all classes, in ``[0, 1)``.
        class_weights: Weight of each class in the training loss; a mixed target weighs the mean of its own.
        test_time_flip: Predict the mean probability of an image and its mirror image, also in validation and test.
        channels_last: Compute convolutions in channels-last memory format, often faster.
        layer_decay: By what the learning rate falls from one stage of the network to the one below; see
            `toolkit.nn.layer_decay`.
        lora: Train low-rank adapters and the head, and nothing else.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: Fewer than two classes; names or weights that do not count K; negative weights, or all 0; smoothing
            outside its range.
    """

    monitor = "val/acc"
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
        mix: Mixing | None = None,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        test_time_flip: bool = False,
        channels_last: bool = False,
        layer_decay: float = 1.0,
        lora: LoRA | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        if num_classes < 2:
            raise UserError(
                f"model.init_args.num_classes: {type(self).__name__} needs two or more classes, got {num_classes}; "
                "take a DataModule of labelled images, such as ImageFolderDataModule with one folder a class."
            )
        check_one_a_class(num_classes, class_names=class_names)
        check_class_weights(num_classes, class_weights)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.init_args.label_smoothing: need 0 <= label_smoothing < 1, got {label_smoothing}.")
        super().__init__(
            net,
            optimizer,
            scheduler,
            scheduler_config,
            metrics=classification_metrics(num_classes),
            scalars=("loss", "acc"),
        )
        self.describe(num_classes, class_names, image_size, pixel_mean, pixel_std)
        self.augment = augment
        self.mix = mix
        self.label_smoothing = label_smoothing
        self.test_time_flip = test_time_flip
        weights = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None  # (K,)
        self.register_buffer("class_weights", weights, persistent=False)
        self.prepare_network(channels_last, layer_decay, lora)

    def network_input(self, batch: ImageBatch, training: bool) -> Tensor:
        """The images as the network sees them, but for mixing: augmented if training, normalised.

        Returns:
            ``(B, C, H, W)``, of the network's dtype.
        """
        image = batch.image
        if training and self.augment is not None:
            image = self.augment(image, batch.key)
        normalized: Tensor = self.normalize(to_float(image))
        return normalized.to(self.dtype, memory_format=self.memory_format)

    def read(self, image: Tensor) -> Reading:
        """What the last layer sees of images ``(B, C, H, W)`` in ``[0, 1]``, and the logits: for scores of generators.

        Raises:
            UserError: The network has no ``forward_features``.
        """
        features = getattr(self.net, "forward_features", None)
        if features is None:
            raise UserError(
                f"classifier: {type(self.net).__name__} has no forward_features; use SmallCNN or CIFARResNet."
            )
        x = self.normalize(image).to(self.dtype)
        return Reading(features(x), self._logits(x))

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """Loss, accuracy and metrics of a batch; samples that could not be read count nowhere."""
        training = stage == "train"
        image = self.network_input(batch, training)  # (B, C, H, W)
        readable = batch.label != IGNORE_LABEL  # (B,)
        label = batch.label.where(readable, 0)
        target: Tensor = label
        if training and self.mix is not None:
            image, target = self.mix(image, F.one_hot(label, self.num_classes).to(image.dtype), batch.key)
            label = target.argmax(dim=1)
            readable = readable & readable.roll(1)  # nor may what is mixed with the unreadable one before it
        logits = at_least_float32(self._logits(image)) if training else self._evaluation_logits(image)
        loss, weight = self._loss(logits, target, readable, training)
        count = readable.sum()
        acc = ((logits.argmax(dim=1) == label) & readable).sum() / count.clamp(min=1)
        self.record(stage, [weight, count], loss=loss, acc=acc)
        if training:
            return StepOutput(loss, weight=weight)
        probability = logits.softmax(dim=1).float()
        self.metrics(stage).update(probability, batch.label)
        return StepOutput(loss, ImagePrediction(probability, batch.index, readable))

    def _logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        if logits.shape[1:] != (self.num_classes,):
            raise UserError(
                f"model.init_args.net: it returned shape {tuple(logits.shape)} for {len(image)} images, the data has "
                f"{self.num_classes} classes; the network must return ({len(image)}, {self.num_classes})."
            )
        return logits

    def _evaluation_logits(self, image: Tensor) -> Tensor:
        logits = at_least_float32(self._logits(image))
        if self.test_time_flip:
            mirrored = at_least_float32(self._logits(image.flip(3)))
            logits = torch.logaddexp(logits.log_softmax(dim=1), mirrored.log_softmax(dim=1)) - math.log(2)
        return logits

    def _loss(self, logits: Tensor, target: Tensor, readable: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Mean cross entropy over readable samples, in training with the classes' weights; and the sum of weights."""
        weights = self.class_weights if training else None
        assert weights is None or isinstance(weights, Tensor)
        weights = None if weights is None else weights.to(logits.dtype)
        target = target.to(logits.dtype) if target.is_floating_point() else target
        losses = F.cross_entropy(
            logits, target, weight=weights, label_smoothing=self.label_smoothing if training else 0.0, reduction="none"
        )  # (B,)
        each = torch.ones_like(losses)  # (B,), what a sample weighs
        if weights is not None:
            each = target @ weights if target.is_floating_point() else weights[target]
        weight = (readable * each).sum()
        return (losses * readable).sum() / weight.clamp(min=torch.finfo(losses.dtype).tiny), weight

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImagePrediction:
        """Class probabilities of raw images."""
        probability = self._evaluation_logits(self.network_input(batch, training=False)).softmax(dim=1).float()
        return ImagePrediction(probability, batch.index, batch.label != IGNORE_LABEL)
