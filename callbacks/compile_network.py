"""Compiling the network, in place."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.distributed.fsdp import FSDPModule

from toolkit.errors import UserError
from toolkit.sharding import blocks


class CompileNetwork(Callback):
    """Compiles the network before a fit, so that the names in its checkpoints stay: `torch.nn.Module.compile`.

    Of a sharded network (FSDP2) each block is compiled for itself, since weights are gathered between two of them.

    Args:
        mode: "default", "reduce-overhead" (CUDA graphs) or "max-autotune", which takes minutes to save milliseconds.
        backend: What torch compiles with.
        dynamic: Whether to expect other shapes; by default torch finds out.

    Raises:
        UserError: The task has no ``net``.
    """

    def __init__(self, mode: str = "default", backend: str = "inductor", dynamic: bool | None = None) -> None:
        self.mode = mode
        self.backend = backend
        self.dynamic = dynamic

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile; the first steps take longer."""
        net = pl_module.net
        if not isinstance(net, nn.Module):
            raise UserError(f"CompileNetwork: {type(pl_module).__name__} has no network called net.")
        mode = self.mode if self.backend == "inductor" else None  # others have none
        for part in blocks(net) if isinstance(net, FSDPModule) else [net]:
            part.compile(mode=mode, backend=self.backend, dynamic=self.dynamic)
