"""How much of the labels a linear layer reads from features, while the encoder learns without them."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from callbacks.online_knn import check_encoder
from toolkit.errors import UserError
from toolkit.selfsupervised.image_encoder import ImageEncoder
from toolkit.types import IGNORE_LABEL, ImageBatch, ImageFeatures


class OnlineLinearProbe(Callback):
    """Trains a linear classifier beside the encoder, and logs ``train/probe_loss`` and ``val/probe_acc``.

    After each training step it encodes the batch's images as they are, in evaluation mode and without gradients, and
    makes a step of Adam of its own: neither weights nor BatchNorm's statistics nor a generator's state of the encoder
    know of it. Features are standardised without parameters (layer normalisation). The classifier begins with zeros; it
    and its optimizer are in the checkpoint, so a resumed run goes on exactly; ranks average its gradients by their
    samples. The figure lags behind that of a classifier trained to its end: `configs/selfsupervised/linear_*.yaml`.

    Args:
        lr: Of Adam.
        every_n_steps: Optimizer steps of the encoder between two of the probe; each costs a forward pass. Of batches
            whose gradients are accumulated it sees the last.

    Raises:
        UserError: A number that is not positive; a task that is no `ImageEncoder`; data without ``num_classes``, or
            with a single class.
    """

    def __init__(self, lr: float = 0.005, every_n_steps: int = 1) -> None:
        if lr <= 0 or every_n_steps < 1:
            raise UserError(f"OnlineLinearProbe: need lr > 0 and every_n_steps >= 1, got {lr} and {every_n_steps}.")
        self.lr, self.every_n_steps = lr, every_n_steps
        self._loaded: Mapping[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks and data."""
        check_encoder(self, pl_module)
        classes = getattr(trainer.datamodule, "num_classes", None)  # type: ignore[attr-defined]
        if classes is None:
            raise UserError("OnlineLinearProbe: the data has no num_classes; remove the probe from trainer.callbacks.")
        if classes < 2:
            raise UserError(
                f"OnlineLinearProbe: need labels of two or more classes, got {classes} class, so there is nothing to "
                "read from the features; remove the probe from trainer.callbacks."
            )
        self._classes: int = classes

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Build the classifier, or take over that of the checkpoint."""
        assert isinstance(pl_module, ImageEncoder)
        width = _encode(trainer, pl_module, _images(trainer)).shape[1]
        self._probe = nn.Linear(width, self._classes, device="meta").to_empty(device=pl_module.device)
        nn.init.zeros_(self._probe.weight)
        nn.init.zeros_(self._probe.bias)
        self._optimizer = torch.optim.Adam(self._probe.parameters(), lr=self.lr)
        if self._loaded:
            self._probe.load_state_dict(self._loaded["probe"])
            self._optimizer.load_state_dict(self._loaded["optimizer"])
        self._accuracy = MulticlassAccuracy(
            num_classes=self._classes, average="micro", ignore_index=IGNORE_LABEL, validate_args=False
        ).to(pl_module.device)

    @torch.enable_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, batch_idx: int
    ) -> None:
        """One step of the probe."""
        if trainer.fit_loop._should_accumulate() or trainer.global_step % self.every_n_steps:
            return
        assert isinstance(pl_module, ImageEncoder)
        features = _encode(trainer, pl_module, batch.image)
        self._optimizer.zero_grad()
        total = F.cross_entropy(self._logits(features), batch.label, ignore_index=IGNORE_LABEL, reduction="sum")
        total.backward()  # type: ignore[no-untyped-call]
        count = (batch.label != IGNORE_LABEL).sum().to(total.dtype)
        sums = [total.detach(), count, *(p.grad for p in self._probe.parameters() if p.grad is not None)]
        if trainer.world_size > 1:
            for value in sums:
                torch.distributed.all_reduce(value)
        for gradient in sums[2:]:
            gradient /= count.clamp(min=1)
        self._optimizer.step()
        if trainer._logger_connector.should_update_logs:
            pl_module.log_with_step({"train/probe_loss": float(total.detach() / count.clamp(min=1))})

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, batch_idx: int, *args: int
    ) -> None:
        """Read the labels of a batch."""
        if trainer.state.fn == "fit":
            assert isinstance(outputs, ImageFeatures)
            self._accuracy.update(self._logits(outputs.feature), batch.label)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        if trainer.state.fn == "fit":
            value: Tensor = self._accuracy.compute()
            self._accuracy.reset()
            pl_module.log("val/probe_acc", value, prog_bar=True, sync_dist=True)  # equal on all ranks

    def _logits(self, features: Tensor) -> Tensor:
        features = features.to(self._probe.weight.dtype)
        logits: Tensor = self._probe(F.layer_norm(features, features.shape[1:]))
        return logits

    def state_dict(self) -> dict[str, Any]:
        """Classifier and optimizer."""
        return {"probe": self._probe.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until there is a classifier to put them into."""
        self._loaded = state_dict


@torch.no_grad()
def _encode(trainer: Trainer, encoder: ImageEncoder, image: Tensor) -> Tensor:
    """Features in evaluation mode; each module's own mode is put back, for some may be frozen."""
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        with trainer.precision_plugin.forward_context():
            return encoder.encode(image)
    finally:
        for module in training:
            module.training = True


def _images(trainer: Trainer) -> Tensor:
    image: Tensor = trainer.datamodule.dataset("train").read(torch.arange(1))[0]  # type: ignore[attr-defined]
    return image.to(trainer.strategy.root_device)
