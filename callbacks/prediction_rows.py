"""What a row of predictions is made of, whatever was predicted."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


@runtime_checkable
class NamedSamples(Protocol):
    """A DataModule that knows what its samples are called and why some cannot be read."""

    def sample_name(self, index: int) -> str:
        """What a sample of the prediction set is called."""

    def unreadable(self, indices: Sequence[int]) -> Mapping[int, str]:
        """Why samples could not be read, by number."""


class Rows(ABC):
    """The rows of one kind of prediction: keeps little of each batch, and that on the CPU."""

    def begin(self, trainer: Trainer, pl_module: LightningModule, target: Path) -> None:  # noqa: B027  # most need none
        """Prepare what is written besides the rows, before the first batch.

        Args:
            trainer: Which predicts.
            pl_module: The task.
            target: The CSV.
        """

    @abstractmethod
    def add(self, prediction: Any) -> None:
        """Keep what is written of a batch."""

    def illustrate(self, prediction: Any, batch: Any) -> None:  # noqa: B027  # most have nothing to see
        """Write pictures of a batch."""

    @abstractmethod
    def gather(self, pl_module: LightningModule) -> None:
        """Bring together what the ranks have kept, in the order of the samples."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns between ``path`` and ``error``."""

    @abstractmethod
    def rows(self, pl_module: LightningModule) -> Iterable[tuple[int, list[str] | None]]:
        """Sample number and fields of each row; None instead of fields where the sample could not be read."""

    def finish(self) -> None:  # noqa: B027  # most write nothing else
        """Write what else is made of all samples, on rank 0, when the rows are written."""


def sample_name(trainer: Trainer, index: int) -> str:
    """What the DataModule calls a sample of the test split; its number if it calls it nothing."""
    data = getattr(trainer, "datamodule", None)
    return data.sample_name(index) if isinstance(data, NamedSamples) else str(index)


def file_stem(trainer: Trainer, index: int) -> str:
    """A file's name for a sample, without ending: numbered, for samples of one name may lie in several folders."""
    name = sample_name(trainer, index)
    stem = Path(name).stem if Path(name).suffix else "".join(c if c.isalnum() else "_" for c in name).strip("_")
    return f"{index:06d}_{stem}"


def unreadable(trainer: Trainer, indices: Sequence[int]) -> Mapping[int, str]:
    """Why the DataModule could not read samples."""
    data = getattr(trainer, "datamodule", None)
    return data.unreadable(indices) if isinstance(data, NamedSamples) else {}


def gather_rows(pl_module: LightningModule, rows: Tensor) -> Tensor:
    """The rows of all ranks, one after another, on the CPU; ranks may hold different numbers of rows."""
    if pl_module.trainer.world_size == 1:
        return rows.cpu()
    is_bool = rows.dtype == torch.bool
    sent = (rows.to(torch.uint8) if is_bool else rows).to(pl_module.trainer.strategy.root_device).contiguous()
    gathered = torch.cat([part.cpu() for part in gather_all_tensors(sent)])
    return gathered.bool() if is_bool else gathered
