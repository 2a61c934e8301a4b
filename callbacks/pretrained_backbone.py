"""A task that begins with the backbone of another run: fine-tuning, and linear evaluation."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.taken_weights import Transfer
from toolkit.task import Task
from toolkit.transfer import take_backbone


class PretrainedBackbone(Callback):
    """Loads the backbone of a checkpoint into the task's network before a fit, and says what was taken.

    Works with any task and any checkpoint of the toolkit whose networks agree; see `toolkit.transfer.take_backbone`. A
    frozen backbone gets no gradient and stays in evaluation mode, so that BatchNorm's statistics stay what they are
    (Lightning's ``BaseFinetuning`` would go on to normalise by the batch). A run that is resumed has its weights from
    its own checkpoint and needs the other no more.

    Args:
        checkpoint: A run folder (its best checkpoint) or a checkpoint file; None keeps the network as it was drawn,
            against which a backbone that learned can be compared.
        freeze: Whether to train the head only.

    Raises:
        UserError: There is no such checkpoint, or it does not fit; ``freeze`` with a network without ``head``.
    """

    def __init__(self, checkpoint: str | None, freeze: bool = False) -> None:
        self.checkpoint, self.freeze = checkpoint, freeze
        self._found: Transfer | UserError | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load and freeze, before the optimizer asks which parameters train."""
        if stage != "fit":
            return
        assert isinstance(pl_module, Task)
        if self.checkpoint is not None:
            try:
                self._found = take_backbone(pl_module, self.checkpoint)
            except UserError as error:
                self._found = error
        if self.freeze:
            head = {id(parameter) for parameter in self._head(pl_module).parameters()}
            for parameter in pl_module.net.parameters():  # a class token and positions, too
                if id(parameter) not in head:
                    parameter.requires_grad_(False)
            pl_module.rest_frozen()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was found; only now the Trainer knows whether it resumes a run, whose weights replaced these."""
        if trainer.ckpt_path is not None or self._found is None:
            return
        if isinstance(self._found, UserError):
            raise self._found
        for line in self._found.lines():
            rank_zero_info(line)

    def _head(self, pl_module: Task) -> nn.Module:
        head = getattr(pl_module.net, "head", None)
        if not isinstance(head, nn.Module):
            raise UserError(
                f"PretrainedBackbone.freeze: {type(pl_module.net).__name__} has no part named head that would be left "
                "to train; write freeze: false."
            )
        return head
