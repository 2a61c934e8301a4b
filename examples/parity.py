"""A new task in one file: is the digit even or odd?

    python cli.py fit --config examples/parity.yaml

Loss, metrics and prediction are all that a task has to say; the data, the loop, logging, checkpoints, exact evaluation
on several devices, and the command line are there.
"""

from typing import NamedTuple

import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC

from toolkit.task import SchedulerConfig, Task
from toolkit.types import ImageBatch, Stage, StepOutput


class ParityPrediction(NamedTuple):
    """What `predict` gives for a batch."""

    even: Tensor
    """``(B,)``, probability that the number is even."""
    index: Tensor
    """``(B,)``, the sample's number in its data set."""


class Parity(Task):
    """Binary cross entropy on the parity of the label.

    Args:
        net: Images ``(B, C, H, W)`` in ``[0, 1]`` to logits ``(B, 1)``.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.
    """

    monitor = "val/auroc"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        metrics = MetricCollection({"auroc": BinaryAUROC()})
        super().__init__(net, optimizer, scheduler, scheduler_config, metrics=metrics)

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """Loss and metrics of a batch."""
        logits = self._logits(batch)  # (B,)
        even = (batch.label % 2 == 0).to(logits.dtype)  # (B,)
        loss = F.binary_cross_entropy_with_logits(logits, even)
        self.record(stage, len(even), loss=loss)
        if stage != "train":
            self.metrics(stage).update(logits.sigmoid(), even.int())
        return StepOutput(loss, weight=len(even))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ParityPrediction:
        """Probability of an even number."""
        return ParityPrediction(self._logits(batch).sigmoid(), batch.index)

    def _logits(self, batch: ImageBatch) -> Tensor:
        logits: Tensor = self.net(batch.image.to(self.dtype) / 255)
        return logits.squeeze(1)  # (B, 1) -> (B,)
