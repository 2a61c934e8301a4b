"""What every DataModule is to the command line: seeded, aware of its place among the ranks, with a naive baseline."""

from abc import ABC
from collections.abc import Sequence

from lightning.pytorch import LightningDataModule

from toolkit.errors import UserError
from toolkit.types import Baseline, Stage


class DataSource(LightningDataModule, ABC):
    """The base of data sets (`datamodules.base.BaseDataModule`) and of environments (`GymnasiumDataModule`)."""

    seed: int = 0
    """Seed of the run; the command line sets it to ``seed_everything``."""

    def __str__(self) -> str:
        """Its name; Lightning's own would make all loaders, and is asked for each fact that a kind of data lacks."""
        return type(self).__name__

    def baseline(self, stage: Stage) -> Baseline | None:
        """The score of a predictor that learned nothing on a split; None where there is none worth naming."""
        return None

    def sample_name(self, index: int) -> str:
        """What a row of predictions is called: a path, or the number of the sample."""
        return f"test[{index}]"

    def unreadable(self, indices: Sequence[int]) -> dict[int, str]:
        """Why samples of the prediction set could not be read, by sample number."""
        return {}

    def _place(self) -> tuple[int, int]:
        """(rank, number of ranks)."""
        if self.trainer is None:
            return 0, 1
        if self.trainer.world_size > 1 and self.trainer._accelerator_connector.use_distributed_sampler:
            raise UserError("trainer.use_distributed_sampler: the DataModule deals batches to ranks itself; set false.")
        return self.trainer.global_rank, self.trainer.world_size
