"""Object detection: boxes around objects, with their classes.

Shape legend: B batch, C channels, H height, W width, K classes, M true boxes and D detections of an image at most.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.metrics.average_precision import ClassCurves, CocoAveragePrecision
from toolkit.nn.augmentation import to_float
from toolkit.nn.augmentation.boxes import DetectionAugmentation, inside
from toolkit.nn.lora import LoRA
from toolkit.task import SchedulerConfig
from toolkit.types import IGNORE_LABEL, DetectionBatch, Detections, Stage, StepOutput
from toolkit.vision.image_task import ImageTask, check_one_a_class
from toolkit.vision.networks.detection_heads import Boxes
from toolkit.vision.networks.detector import Detector


class ObjectDetection(ImageTask):
    """A detector learns to put boxes around objects; COCO's average precision says how well.

    The loss is the sum of the detector's own. Validation and test compute it and the detections in one pass, in
    evaluation mode: BatchNorm keeps its statistics and nothing is dropped. Average precision is over the whole set and
    all devices, in pixels of the files, and boxes around crowds count as COCO counts them. Augmentation runs on the
    device, for each sample by its own key; normalisation is part of the model, so a checkpoint predicts on raw pixels.

    The arguments from ``num_classes`` to ``pixel_std`` describe the data; the command line links them from the
    DataModule.

    Args:
        net: `FasterRCNN`, `RetinaNet`, `FCOS`, `SSDlite` or `TorchvisionDetector`.
        num_classes: K.
        class_names: A name for each class; the numbers as text if None.
        category_ids: The number by which a class goes in the data's files and in predictions; 0 to K-1 if None.
        image_size: ``(H, W)`` within which `predict` resizes files.
        pixel_mean: Mean of each channel in ``[0, 1]``; a pretrained network's own goes first; 0.5 if None.
        pixel_std: Standard deviation of each channel, likewise.
        augment: Keyed augmentation of the training images and their boxes.
        channels_last: Compute convolutions in channels-last memory format, often faster.
        layer_decay: By what the learning rate falls from one stage of the network to the one below; see
            `toolkit.nn.layer_decay`.
        lora: Train low-rank adapters in the backbone, and all that is new.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: Names or ids do not count K, or the network is no detector.
    """

    monitor = "val/map"
    mode = "max"
    predict_batch_size = 8

    def __init__(
        self,
        net: Detector,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        image_size: tuple[int, int] | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        augment: DetectionAugmentation | None = None,
        channels_last: bool = False,
        layer_decay: float = 1.0,
        lora: LoRA | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        if not isinstance(net, Detector):
            raise UserError(
                f"model.init_args.net: {type(net).__name__} is no detector; use FasterRCNN, RetinaNet, FCOS, SSDlite "
                "or TorchvisionDetector, or a subclass of toolkit.vision.networks.detector.Detector."
            )
        check_one_a_class(num_classes, class_names=class_names, category_ids=category_ids)
        names = list(class_names or map(str, range(num_classes)))
        super().__init__(
            net,
            optimizer,
            scheduler,
            scheduler_config,
            metrics=MetricCollection([CocoAveragePrecision(num_classes, names)]),
            scalars=("loss", *net.loss_names),
        )
        self.describe(num_classes, class_names, image_size, pixel_mean, pixel_std)
        self.category_ids = list(category_ids or range(num_classes))
        self.augment = augment
        self.prepare_network(channels_last, layer_decay, lora)

    def step(self, batch: DetectionBatch, stage: Stage) -> StepOutput:
        """Losses of a batch, and in evaluation its detections from the same pass."""
        training = stage == "train"
        if torch.finfo(batch.box.dtype).bits < 32:
            raise UserError(
                f"trainer.precision: {batch.box.dtype} would round boxes to several pixels; write bf16-mixed, 16-mixed "
                "or 32-true."
            )
        if training and self.augment is not None:
            batch = self.augment(batch)
        B = len(batch.image)
        output = self.net(*self._network_input(batch), targets_of(batch), batch.key, detects=not training)
        loss = torch.stack(list(output.losses.values())).sum()
        self.record(stage, B, loss=loss, **output.losses)
        if training:
            return StepOutput(loss, weight=B)
        prediction = self._prediction(output.detections, batch)
        self.metrics(stage).update(prediction, batch)
        return StepOutput(loss, prediction)

    def _network_input(self, batch: DetectionBatch) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalised images padded to a multiple of the network's stride, and their sizes."""
        assert isinstance(self.net, Detector)
        H, W = batch.image.shape[2:]
        image = self.normalize(to_float(batch.image)) * inside(batch)  # the mean of all pixels around each
        image = F.pad(image, (0, -W % self.net.stride, 0, -H % self.net.stride))
        sizes = [(height, width) for height, width in batch.size.clamp(min=1).tolist()]
        return image.to(self.dtype, memory_format=self.memory_format), sizes

    def _prediction(self, found: list[Boxes], batch: DetectionBatch) -> Detections:
        """Detections as tensors, in pixels of the files."""
        readable = (batch.size > 0).all(dim=1).tolist()
        found = [{k: v[: len(v) * read] for k, v in boxes.items()} for boxes, read in zip(found, readable, strict=True)]
        most = max(len(boxes["scores"]) for boxes in found)

        def padded(name: str, value: float) -> Tensor:
            return torch.stack([_pad_rows(boxes[name], most, value) for boxes in found])

        box = padded("boxes", 0.0).float() * batch.file_scale()[:, None]
        return Detections(box, padded("scores", 0.0).float(), padded("labels", IGNORE_LABEL), batch.index)

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> Detections:
        """Boxes, scores and classes of raw images."""
        return self._prediction(self.net(*self._network_input(batch)).detections, batch)

    def class_curves(self, stage: Stage) -> ClassCurves | None:
        """By class, what the last evaluation found; None before the first."""
        metric = self.metrics(stage)["CocoAveragePrecision"]
        assert isinstance(metric, CocoAveragePrecision)
        return metric.curves


def targets_of(batch: DetectionBatch) -> list[Boxes]:
    """The boxes to learn of each image: all but padding and crowds."""
    keep = (batch.label != IGNORE_LABEL) & ~batch.crowd  # (B, M)
    parts = zip(batch.box, batch.label, keep, strict=True)
    return [{"boxes": box[mask], "labels": label[mask]} for box, label, mask in parts]


def _pad_rows(rows: Tensor, count: int, value: float) -> Tensor:
    return torch.cat([rows, rows.new_full((count - len(rows), *rows.shape[1:]), value)])
