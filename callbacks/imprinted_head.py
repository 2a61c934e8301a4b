"""A head that knows the classes before the first step."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from toolkit.errors import UserError
from toolkit.language.text_classification import TextClassification
from toolkit.nn.cosine_head import CosineLinear


class ImprintedHead(Callback):
    """Begins a fit with the mean direction of each class's features as the weights of a cosine head.

    Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018. With a pretrained network the fit begins where
    nearest class means would end, and a few examples of each class are enough. Every rank reads the whole training
    split once, in evaluation mode; a run that is resumed has its head from the checkpoint.

    Raises:
        UserError: The task is no `TextClassification`, or its network has no `CosineLinear` as head.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks and heads."""
        if stage != "fit":
            return
        if not isinstance(pl_module, TextClassification) or not isinstance(pl_module.net.head, CosineLinear):
            raise UserError(
                f"ImprintedHead: needs a TextClassification whose network has a cosine head, got "
                f"{type(pl_module).__name__}; write model.init_args.net.init_args.cosine_scale: 20, or remove it from "
                "trainer.callbacks."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the training split and set the head."""
        if trainer.ckpt_path is not None:
            return
        assert isinstance(pl_module, TextClassification)
        head: Any = pl_module.net.head
        features, labels = [], []
        was_training = {module: module.training for module in pl_module.modules()}
        pl_module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for batch in trainer.datamodule.train_in_order():  # type: ignore[attr-defined]
                batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                features.append(pl_module.net.forward_features(batch.token, batch.mask).float())
                labels.append(batch.label)
        for module, training in was_training.items():
            module.training = training
        head.imprint(torch.cat(features), torch.cat(labels))
        rank_zero_info(f"head: imprinted with the mean features of {sum(map(len, labels))} training samples")
