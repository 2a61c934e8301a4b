"""Autoencoder, plain and denoising, and what it cannot reconstruct.

Shape legend: B batch, C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAUROC

from toolkit.errors import UserError
from toolkit.nn.augmentation import Augmentation, to_float
from toolkit.nn.corruption import Corruption
from toolkit.precision import at_least_float32, float64
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, ImageScore, Stage, StepOutput


class Autoencoder(Task):
    """A network that gives back its input through a narrow code, by squared error; denoising if it sees damaged input.

    Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science, 2006; Vincent et al.,
    "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008. Images are in ``[0, 1]``.

    What it was not trained on it reconstructs badly: with ``anomaly_class``, validation and test also report how well
    the error tells that class from the others, as area under the ROC curve. The loss, by which the best checkpoint is
    chosen, is then that of the other classes alone: no anomaly is needed to train, nor to choose.

    Args:
        net: Images ``(B, C, H, W)`` in ``[0, 1]`` to reconstructions of the same shape.
        corruption: What training images suffer before the network sees them; the target stays whole.
        augment: Keyed augmentation of the training images, target included.
        anomaly_class: Name of the class that is anomalous; None: no class is.
        class_names: Of the data.
        image_size: ``(H, W)`` to which `predict` resizes files.
        in_channels: C.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: An ``anomaly_class`` that the data does not have.
    """

    input_kind = "image"

    def __init__(
        self,
        net: nn.Module,
        corruption: Corruption | None = None,
        augment: Augmentation | None = None,
        anomaly_class: str | None = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        in_channels: int = 1,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        auroc: dict[str, Metric | MetricCollection] = {"auroc": BinaryAUROC(validate_args=False)}
        metrics = MetricCollection({} if anomaly_class is None else auroc)
        super().__init__(net, optimizer, scheduler, scheduler_config, metrics=metrics)
        names = list(class_names or [])
        if anomaly_class is not None and anomaly_class not in names:
            raise UserError(
                f"model.init_args.anomaly_class: the data has no class {anomaly_class!r}; choose from "
                f"{', '.join(names) or 'none: it names no classes'}."
            )
        self.anomaly = None if anomaly_class is None else names.index(anomaly_class)
        self.image_size = (image_size[0], image_size[1]) if image_size else None
        self.in_channels = in_channels
        self.corruption = corruption
        self.augment = augment

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """Squared error of a pixel, in training from the damaged image."""
        training = stage == "train"
        image = batch.image
        if training and self.augment is not None:
            image = self.augment(image, batch.key)
        target = to_float(image).to(self.dtype)
        damaged = self.corruption(target, batch.key) if training and self.corruption is not None else target
        error = self.error(damaged, target)  # (B,)
        counted = batch.label != IGNORE_LABEL  # (B,); those that could be read
        if not training and self.anomaly is not None:
            anomalous = batch.label == self.anomaly
            self.metrics(stage).update(_squashed(error[counted]), anomalous[counted])
            counted &= ~anomalous
        weight = counted.sum()
        loss = (error * counted).sum() / weight.clamp(min=1)
        self.record(stage, weight, loss=loss)
        score = None if training else ImageScore(error.float(), batch.index, batch.label != IGNORE_LABEL)
        return StepOutput(loss, score, weight)

    def error(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean squared error ``(B,)`` of a pixel between the reconstruction of ``image`` and ``target``."""
        difference = at_least_float32(self.net(image)) - target
        return difference.square().flatten(1).mean(dim=1)

    def baseline(self, data: Any, stage: Stage) -> Baseline | None:
        """The mean training image, whatever the input."""
        train = data.dataset("train")
        some = torch.linspace(0, len(train) - 1, min(len(train), 10_000)).long()
        parts = [float64(to_float(train.read(index)[0])).sum(dim=0) for index in torch.split(some, 500)]
        mean = (torch.stack(parts).sum(dim=0) / len(some)).float()
        errors, labels = [], []
        for batch in data.val_dataloader() if stage == "val" else data.test_dataloader():
            distance = to_float(batch.image) - mean.to(batch.image.device)  # data in memory may lie on the GPU
            errors.append(distance.square().flatten(1).mean(dim=1))
            labels.append(batch.label)
        known = torch.cat(labels) != IGNORE_LABEL
        error, label = torch.cat(errors)[known], torch.cat(labels)[known]
        if self.anomaly is None:
            return Baseline("mean image", {"loss": float(error.mean())})
        anomalous = label == self.anomaly
        auroc = BinaryAUROC(validate_args=False)(_squashed(error), anomalous)
        return Baseline("mean image", {"loss": float(error[~anomalous].mean()), "auroc": float(auroc)})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageScore:
        """The reconstruction error of each image; here higher is less likely."""
        image = to_float(batch.image).to(self.dtype)
        return ImageScore(self.error(image, image).float(), batch.index, batch.label != IGNORE_LABEL)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Reconstructions of images ``(B, C, H, W)``, uint8 or in ``[0, 1]``."""
        output: Tensor = self.net(to_float(image).to(self.dtype))
        return output


def _squashed(error: Tensor) -> Tensor:
    """Into ``[0, 1)``, in the same order: the metric takes what lies outside for logits."""
    return error / (1 + error)
