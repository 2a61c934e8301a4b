"""Proof that what is frozen stays: parameters without a gradient, and the statistics of frozen BatchNorm."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.errors import UserError


class FrozenAudit(Callback):
    """Hashes every frozen tensor once an epoch and fails the run if one moved.

    Frozen is a parameter that requires no gradient, and the running statistics of a BatchNorm layer whose own
    parameters are all frozen: they follow the batches in training mode whatever ``requires_grad`` says. A layer that
    is unfrozen on the way leaves the list, one that is frozen on the way joins it. The hashes are in the checkpoint, so
    a resumed run is held to those of the run before. Parameters that FSDP has sharded are not supported.

    Raises:
        UserError: After the epoch in which a frozen tensor moved, or when a resumed run begins with another one.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """The hash of each frozen tensor."""
        return dict(self._hashes)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold the resumed run to the hashes of the run before."""
        self._hashes = dict(state_dict)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier fit; a resumed one has its hashes from the checkpoint."""
        if trainer.ckpt_path is None:
            self._hashes = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what is frozen."""
        self._audit(pl_module, "since the checkpoint was written")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and note what is frozen now."""
        self._audit(pl_module, f"in epoch {trainer.current_epoch}")

    def _audit(self, module: nn.Module, when: str) -> None:
        now = {name: fingerprint(tensor) for name, tensor in frozen_tensors(module)}
        moved = [name for name, value in now.items() if self._hashes.get(name, value) != value]
        if moved:
            raise UserError(
                f"FrozenAudit: {len(moved)} of {len(now)} frozen tensors moved {when}: {', '.join(moved[:5])}"
                f"{', ...' if len(moved) > 5 else ''}. Put frozen BatchNorm layers into eval mode, and give the "
                "optimizer no frozen parameter."
            )
        self._hashes = now


def frozen_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module that training must not move.

    >>> norm = nn.BatchNorm1d(2).requires_grad_(False)
    >>> [name for name, _ in frozen_tensors(nn.Sequential(nn.Linear(2, 2), norm))]
    ['1.weight', '1.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
    for prefix, layer in module.named_modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            for name, buffer in layer.named_buffers(prefix, recurse=False):
                yield name, buffer


def fingerprint(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes, shape and dtype left out.

    >>> fingerprint(torch.tensor(0.0)) == fingerprint(torch.tensor(-0.0))
    False
    """
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(content.numpy().tobytes()).hexdigest()
