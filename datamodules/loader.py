"""A DataLoader that begins where the training stands."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from datamodules.sampler import KeyedSampler


class TrainLoader(DataLoader[Any]):
    """Deals the batches of an epoch from the first one that the trainer has not been trained on.

    There is no position to save: the trainer counts its batches, and which samples make up a batch is a function of
    (seed, epoch, batch). What workers have read ahead when a run ends is dealt again.

    Args:
        dataset: Asked for whole batches.
        sampler: The epoch's batches.
        position: How many batches of the epoch the trainer has been through.
        **options: Those of torch's DataLoader.
    """

    def __init__(
        self, dataset: Dataset[Any], sampler: KeyedSampler, position: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(dataset, batch_size=None, sampler=sampler, **options)
        self.position = position

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator: it asks when the first batch is due
        assert isinstance(self.sampler, KeyedSampler)
        self.sampler.first = self.position()
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Nothing; that there is one tells the Trainer that an epoch can be resumed in its middle."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""
