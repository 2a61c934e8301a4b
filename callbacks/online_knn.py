"""How good an encoder's features are while it learns: the vote of the nearest training images."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from toolkit.errors import UserError
from toolkit.gathered import gathered
from toolkit.metrics.nearest_neighbours import BANK_SIZE, NEIGHBOURS, TEMPERATURE, NeighbourVote, bank_of
from toolkit.selfsupervised.image_encoder import ImageEncoder, has_labels
from toolkit.types import IGNORE_LABEL, ImageBatch, ImageFeatures

BATCH = 500
"""Images of the bank that are encoded at once."""


class OnlineKNN(Callback):
    """Logs ``val/knn_acc`` and ``test/knn_acc``: accuracy of the vote of nearest neighbours among training images.

    The images of the bank are encoded as they are, in evaluation mode and without gradients, before each validation; on
    several devices each encodes its share. Nothing is learned, and nothing is kept from one validation to the next.
    Images without labels (a single class) are not measured, which is said once.

    Args:
        neighbours: k.
        temperature: How much nearer ones count more.
        bank_size: Training images that vote, evenly spread over the set.

    Raises:
        UserError: A number that is not positive; a task that is no `ImageEncoder`, or data without a training set.
    """

    def __init__(
        self, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE, bank_size: int = BANK_SIZE
    ) -> None:
        if neighbours < 1 or temperature <= 0 or bank_size < 1:
            raise UserError(
                "OnlineKNN: need neighbours >= 1, temperature > 0 and bank_size >= 1, got "
                f"{neighbours}, {temperature} and {bank_size}."
            )
        self.neighbours, self.temperature, self.bank_size = neighbours, temperature, bank_size

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks, and see whether there are labels."""
        check_encoder(self, pl_module)
        self._measures = has_labels(getattr(trainer, "datamodule", None))
        if stage == "fit" and not self._measures:
            rank_zero_info(
                "data: the images have no labels, so nothing measures the encoder, and no checkpoint is the best; "
                "last.ckpt is the result."
            )

    @torch.no_grad()
    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._measures:
            return
        assert isinstance(pl_module, ImageEncoder)
        image, label = bank_of(trainer.datamodule, self.bank_size)  # type: ignore[attr-defined]
        # Batches are dealt to the ranks, and cut alike on any number of them, so that features round alike.
        batches = zip(torch.split(image, BATCH), torch.split(label, BATCH), strict=True)
        shares = list(batches)[trainer.global_rank :: trainer.world_size]
        with trainer.precision_plugin.forward_context():
            encoded = [pl_module.encode(part.to(pl_module.device)).float() for part, _ in shares]
            width = pl_module.encode(image[:1].to(pl_module.device)).shape[1]
        features = torch.cat([torch.zeros(0, width, dtype=torch.float32, device=pl_module.device), *encoded])
        labels = torch.cat([label[:0], *(part for _, part in shares)]).to(pl_module.device)
        bank = NeighbourVote(
            gathered(pl_module, features), gathered(pl_module, labels), self.neighbours, self.temperature
        )
        self._vote = bank
        self._accuracy = _accuracy(bank.num_classes).to(pl_module.device)

    def _add(self, outputs: Any, batch: ImageBatch) -> None:
        if not self._measures:
            return
        assert isinstance(outputs, ImageFeatures)
        self._accuracy.update(self._vote(outputs.feature), batch.label)

    def _end(self, pl_module: LightningModule, stage: str) -> None:
        if not self._measures:
            return
        value: Tensor = self._accuracy.compute()
        pl_module.log(f"{stage}/knn_acc", value, prog_bar=True, sync_dist=True)  # equal on all ranks

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the bank."""
        self._begin(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, batch_idx: int, *args: int
    ) -> None:
        """Vote."""
        self._add(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        self._end(pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the bank."""
        self._begin(trainer, pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ImageBatch, batch_idx: int, *args: int
    ) -> None:
        """Vote."""
        self._add(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        self._end(pl_module, "test")


def _accuracy(num_classes: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes=num_classes, average="micro", ignore_index=IGNORE_LABEL, validate_args=False)


def check_encoder(callback: Callback, pl_module: LightningModule) -> None:
    """Refuse tasks without features.

    Raises:
        UserError: The task is no `ImageEncoder`.
    """
    if not isinstance(pl_module, ImageEncoder):
        raise UserError(
            f"{type(callback).__name__}: measures an encoder such as SimCLR, got {type(pl_module).__name__}; remove it "
            "from trainer.callbacks."
        )
