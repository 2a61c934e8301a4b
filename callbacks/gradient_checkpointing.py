"""Less memory for more time: activations are computed again in the backward pass."""

import types
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from toolkit.errors import UserError
from toolkit.sharding import blocks


class GradientCheckpointing(Callback):
    """Keeps only the inputs of a network's repeated blocks for the backward pass, and computes the rest again there.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. About a third more computing; the memory of the
    activations no longer grows with what is inside of a block. Gradients stay the same, dropout's noise included.

    Raises:
        UserError: At the start, the network repeats nothing, or has BatchNorm in what it repeats, whose running
            statistics would be updated twice a step.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wrap the blocks' forward, before they are sharded or compiled."""
        net = pl_module.net
        repeated = list(blocks(net)) if isinstance(net, nn.Module) else []
        if not repeated:
            raise UserError(
                f"GradientCheckpointing: {type(net).__name__} has no repeated blocks (members of a Sequential or "
                "ModuleList of the same class); leave the callback out."
            )
        for block in repeated:
            norm = next((name for name, part in block.named_modules() if isinstance(part, _BatchNorm)), None)
            if norm is not None:
                raise UserError(
                    f"GradientCheckpointing: {type(block).__name__}.{norm} is a BatchNorm, whose statistics would be "
                    "updated twice a step; use a network with another normalisation, or leave the callback out."
                )
            block.forward = types.MethodType(_recomputed, block)


def _recomputed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = types.MethodType(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
