"""Text classification: one label a text. Shape legend: B batch, T tokens, K classes."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from toolkit.errors import UserError
from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.tokenizer import restore
from toolkit.metrics.classification import classification_metrics
from toolkit.nn.layer_decay import parameter_groups
from toolkit.precision import at_least_float32
from toolkit.task import SchedulerConfig, Task
from toolkit.types import LabelledTextBatch, Stage, StepOutput, TextPrediction


class TextClassification(Task):
    """Cross entropy between a network's logits and one label a text.

    The training loss may smooth labels (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, eq. 7);
    that of validation and test is the plain cross entropy. Weights of two and more dimensions decay; biases and gains
    do not.

    The arguments from ``num_classes`` to ``max_length`` describe the data; the command line links them from the
    DataModule, and a checkpoint keeps them, so that it predicts raw text.

    Args:
        net: Tokens ``(B, T)`` and their mask to logits ``(B, K)``.
        num_classes: K.
        vocabulary: The trained tokenizer as plain values.
        class_names: A name for each class; the numbers as text if None.
        max_length: Tokens of a text that are read; None: all.
        label_smoothing: Share of the target spread over all classes, in ``[0, 1)``.
        layer_decay: By what the learning rate falls from one stage of the network to the one below; see
            `toolkit.nn.layer_decay`.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: Names do not count K, or a number is out of its range.
    """

    monitor = "val/acc"
    mode = "max"
    input_kind = "text"
    net: TextNetwork

    def __init__(
        self,
        net: TextNetwork,
        num_classes: int,
        vocabulary: dict[str, Any],
        class_names: Sequence[str] | None = None,
        max_length: int | None = None,
        label_smoothing: float = 0.0,
        layer_decay: float = 1.0,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        if class_names is not None and len(class_names) != num_classes:
            raise UserError(f"model.init_args.class_names: need {num_classes}, one a class, got {len(class_names)}.")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.init_args.label_smoothing: need 0 <= label_smoothing < 1, got {label_smoothing}.")
        metrics = classification_metrics(num_classes)
        super().__init__(net, optimizer, scheduler, scheduler_config, metrics=metrics, scalars=("loss", "acc"))
        self.num_classes = num_classes
        self.class_names = list(class_names or map(str, range(num_classes)))
        self.tokenizer = restore(vocabulary)
        self.max_length = max_length
        self.label_smoothing = label_smoothing
        self.fine_tune(layer_decay)

    def step(self, batch: LabelledTextBatch, stage: Stage) -> StepOutput:
        """Loss, accuracy and metrics of a batch."""
        logits = self._logits(batch)  # (B, K)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        loss = F.cross_entropy(logits, batch.label, label_smoothing=smoothing)
        count = torch.tensor(len(batch.label), device=loss.device)
        acc = (logits.argmax(dim=1) == batch.label).to(loss.dtype).mean()
        self.record(stage, count, loss=loss, acc=acc)
        if stage == "train":
            return StepOutput(loss, weight=count)
        probability = logits.softmax(dim=1).float()
        self.metrics(stage).update(probability, batch.label)
        return StepOutput(loss, TextPrediction(probability, batch.index))

    def _logits(self, batch: LabelledTextBatch) -> Tensor:
        logits = self.net(batch.token, batch.mask)
        if logits.shape[1:] != (self.num_classes,):
            raise UserError(
                f"model.init_args.net: it returned shape {tuple(logits.shape)} for {len(batch.token)} texts, the data "
                f"has {self.num_classes} classes; the network must return ({len(batch.token)}, {self.num_classes})."
            )
        return at_least_float32(logits)

    def predict_step(self, batch: LabelledTextBatch, batch_idx: int) -> TextPrediction:
        """Class probabilities of texts."""
        return TextPrediction(self._logits(batch).softmax(dim=1).float(), batch.index)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups by stage, and matrices apart from vectors, which do not decay."""
        return parameter_groups(self.net, self.layer_decay)
