"""Semi-supervised image classification by consistency. Shape legend: B batch, C channels, H height, W width."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from toolkit.errors import UserError
from toolkit.keys import view_keys
from toolkit.metrics.running_means import RunningMeans
from toolkit.nn.augmentation import Augmentation
from toolkit.precision import at_least_float32
from toolkit.types import IGNORE_LABEL, ImageBatch, SemiSupervisedBatch, Stage, StepOutput
from toolkit.vision.image_classification import ImageClassification


class FixMatch(ImageClassification):
    """What the network is certain of on a weakly augmented image it is to say of a strongly augmented one, too.

    Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020. The
    loss is the cross entropy of the labelled images, plus ``unlabelled_weight`` times that of the strongly augmented
    unlabelled ones with the class that the network gives to their weakly augmented selves, where its probability is at
    least ``threshold``; the others count 0. Train it with the callback `EMA`, as the paper does. Evaluation and
    prediction are those of `ImageClassification`.

    Args:
        net: Images ``(B, C, H, W)``, float32, normalised, to logits ``(B, K)``.
        num_classes: K.
        augment: Weak augmentation, of labelled and unlabelled images.
        strong: Strong augmentation of the unlabelled images; only a task that is not trained can do without.
        threshold: Least probability of a class that is believed, in ``[0, 1]``.
        unlabelled_weight: Of the unlabelled images' loss.
        **classification: ``class_names`` and the others of `ImageClassification`, except ``mix`` and ``class_weights``.

    Raises:
        UserError: A threshold or weight out of its range, ``mix`` or ``class_weights``; from ``step``, a training batch
            without unlabelled images, or no ``strong``.
    """

    is_mean_over_samples = False

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        augment: Augmentation | None = None,
        strong: Augmentation | None = None,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        **classification: Any,
    ) -> None:
        refused = [name for name in ("mix", "class_weights") if classification.get(name) is not None]
        if refused:
            raise UserError(f"model.init_args: FixMatch does not take {' and '.join(refused)}; leave it out.")
        super().__init__(net, num_classes, augment=augment, **classification)
        if not 0 <= threshold <= 1 or unlabelled_weight < 0:
            raise UserError(
                "model.init_args: need 0 <= threshold <= 1 and unlabelled_weight >= 0, got "
                f"{threshold} and {unlabelled_weight}."
            )
        self._means["train_means"] = RunningMeans(("loss", "acc", "consistency", "certain"))
        self.strong, self.threshold, self.unlabelled_weight = strong, threshold, unlabelled_weight

    def step(self, batch: ImageBatch | SemiSupervisedBatch, stage: Stage) -> StepOutput:
        """Both losses in training; in evaluation that of a classification."""
        if isinstance(batch, ImageBatch):
            if stage == "train":
                raise UserError(
                    "data: FixMatch learns from labelled and unlabelled images; use SemiSupervisedDataModule."
                )
            return super().step(batch, stage)
        if self.strong is None:
            raise UserError("model.init_args.strong: FixMatch needs a strong augmentation to be consistent under.")
        few, many = batch.labelled, batch.unlabelled
        with torch.no_grad():
            weak = at_least_float32(self._logits(self.network_input(many, training=True)))
        confidence, believed = weak.softmax(dim=1).max(dim=1)  # (B,)
        sure = ((confidence >= self.threshold) & batch.readable).float()
        strong = many._replace(image=self.strong(many.image, view_keys(many.key, 0)))
        image = [self.network_input(few, training=True), self.network_input(strong, training=False)]
        logits = at_least_float32(self._logits(torch.cat(image)))  # (labelled and unlabelled, K)
        labelled, unlabelled = logits[: len(few.label)], logits[len(few.label) :]
        few_count, many_count = (few.label != IGNORE_LABEL).sum(), batch.readable.sum()
        few_total, many_total = few_count.clamp(min=1), many_count.clamp(min=1)
        # unreadable labelled images have IGNORE_LABEL, torch's own, and count 0
        nats = F.cross_entropy(labelled, few.label, label_smoothing=self.label_smoothing, reduction="none")
        consistency = (F.cross_entropy(unlabelled, believed, reduction="none") * sure).sum() / many_total
        loss = nats.sum() / few_total + self.unlabelled_weight * consistency
        acc = (labelled.argmax(dim=1) == few.label).sum() / few_total
        weights = [few_count, few_count, many_count, many_count]
        self.record(stage, weights, loss=loss, acc=acc, consistency=consistency, certain=sure.sum() / many_total)
        return StepOutput(loss, weight=float(len(few.label)))
