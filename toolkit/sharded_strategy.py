"""Training with parameters, gradients and optimizer states sharded over all devices (FSDP2)."""

import secrets
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, empty

from toolkit import sharded_checkpoint
from toolkit.checkpoint_io import has_changed, read_tensors, write
from toolkit.errors import UserError


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's `ModelParallelStrategy`, with all devices in one data-parallel group, and durable checkpoints.

    Every rank writes its own part; see `toolkit.sharded_checkpoint`. The content is laid out as that of a single file,
    so a run goes on with another number of ranks or another strategy, and everything that reads a checkpoint reads both
    kinds. Buffers, such as BatchNorm's statistics, are those of rank 0 in every step, as under DDP.

    Args:
        timeout: How long a rank waits for the others before the run ends.
        process_group_backend: By default what suits the device: nccl or gloo.
    """

    def __init__(
        self, timeout: timedelta | None = timedelta(minutes=5), process_group_backend: str | None = None
    ) -> None:
        super().__init__(tensor_parallel_size=1, timeout=timeout, process_group_backend=process_group_backend)

    def _setup_distributed(self) -> None:
        super()._setup_distributed()
        self._data_parallel_size = self.world_size

    def setup_environment(self) -> None:
        """Start the process group; then, before the weights are sharded, put SyncBatchNorm in if that was asked for."""
        super().setup_environment()
        model = self.lightning_module
        if self._layer_sync and model is not None and not any(isinstance(m, FSDPModule) for m in model.modules()):
            self._layer_sync.apply(model)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Give all ranks the buffers of rank 0 first."""
        assert self.lightning_module is not None
        if torch.is_grad_enabled() and self.world_size > 1:
            for name, buffer in self.lightning_module.named_buffers():
                if name.startswith("net."):  # others, such as metrics, are a rank's own
                    torch.distributed.broadcast(buffer, src=0)
        return super().training_step(*args, **kwargs)

    # The state is that of module and optimizer themselves, whose tensors are sharded ones: nothing is to be translated.
    restore_checkpoint_after_setup = False
    lightning_restore_optimizer = True
    lightning_module_state_dict = Strategy.lightning_module_state_dict
    load_model_state_dict = Strategy.load_model_state_dict
    optimizer_state = Strategy.optimizer_state
    load_optimizer_state_dict = Strategy.load_optimizer_state_dict

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a folder, each rank its part, then rank 0 the manifest, then the name that means it.

        Raises:
            UserError: It could not be written; what stood there before still does.
        """
        path = self.broadcast(Path(filepath))
        folder = path.with_name(self.broadcast(f"{sharded_checkpoint.FOLDERS}{secrets.token_hex(4)}"))
        values: dict[str, Any] = {}
        written: dict[str, str] | str
        try:
            values, written = sharded_checkpoint.write_shards(checkpoint, folder)
        except OSError as error:
            written = str(error)
        ranks: list[dict[str, str] | str] = [""] * self.world_size
        torch.distributed.all_gather_object(ranks, written)
        problem = next((rank for rank in ranks if isinstance(rank, str)), None)
        if self.is_global_zero and problem is None:
            checksums = {name: checksum for rank in ranks if isinstance(rank, dict) for name, checksum in rank.items()}
            problem = _publish(values, checksums, folder, path)
        problem = self.broadcast(problem)
        if problem is not None:
            if self.is_global_zero:
                shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                f"checkpoint {str(path)!r}: cannot be written ({problem}); what stood there before is intact. Make "
                "room or mend the permissions, then resume the run."
            )

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read this rank's part of a checkpoint, from a folder or a single file.

        Raises:
            UserError: It was damaged.
        """
        path = self.broadcast(Path(checkpoint_path))
        if self.broadcast(has_changed(path) if self.is_global_zero else None):
            raise UserError(f"checkpoint {str(path)!r}: its checksum is wrong, so it was damaged; take another.")
        if path.is_dir():
            return sharded_checkpoint.read_shards(path, self._empty, no_dist=False)
        return self._shard(read_tensors(path))

    def _empty(self, size: torch.Size, dtype: torch.dtype) -> Tensor:
        mesh = self.device_mesh["data_parallel"]
        return empty(size, dtype=dtype, device_mesh=mesh, placements=[Shard(0) if size else Replicate()])

    def _shard(self, content: dict[str, Any]) -> dict[str, Any]:
        """Take this rank's part of whole tensors."""
        assert self.lightning_module is not None
        mesh = self.device_mesh["data_parallel"]
        sharded = {name for name, tensor in self.lightning_module.state_dict().items() if isinstance(tensor, DTensor)}

        def part(tensor: Tensor) -> Tensor:
            return distribute_tensor(tensor.to(mesh.device_type), mesh, [Shard(0)])

        for kind in ("state_dict", "current_model_state"):
            weights: Mapping[str, Tensor] = content.get(kind, {})
            content |= {kind: {k: part(v) if k in sharded else v for k, v in weights.items()}} if weights else {}
        for optimizer in content.get("optimizer_states", []):
            for state in optimizer["state"].values():
                state |= {k: part(v) for k, v in state.items() if isinstance(v, Tensor) and v.ndim}
        return content


def _publish(values: dict[str, Any], checksums: dict[str, str], folder: Path, path: Path) -> str | None:
    """On rank 0: write what is not sharded, then the manifest, then the name; gives what went wrong."""
    try:
        write(values, folder / sharded_checkpoint.VALUES)
        own = {sharded_checkpoint.VALUES: sharded_checkpoint.sha256(folder / sharded_checkpoint.VALUES)}
        sharded_checkpoint.finish_folder(folder, checksums | own)
        sharded_checkpoint.publish(folder, path)
        sharded_checkpoint.remove_unnamed(path.parent)
    except OSError as error:
        return str(error)
    return None
