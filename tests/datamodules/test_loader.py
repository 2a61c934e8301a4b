import pytest
import torch

from datamodules.base import BatchedDataset
from datamodules.loader import TrainLoader
from datamodules.sampler import BatchIndex, TrainSampler


class Numbers(BatchedDataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, batch: BatchIndex) -> torch.Tensor:
        return batch.index


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_the_trainer_stands(workers: int) -> None:
    """Also with persistent workers, which have read ahead, and in the epoch after."""
    done = 0
    loader = TrainLoader(
        Numbers(), TrainSampler(20, 4, seed=0), lambda: done, num_workers=workers, persistent_workers=workers > 0
    )
    whole = torch.stack(list(loader))
    assert len(loader) == len(whole) == 5
    interrupted = iter(loader)
    first = [next(interrupted) for _ in range(2)]
    done = 2
    assert torch.equal(torch.stack([*first, *loader]), whole)
    assert len(loader) == 5  # the epoch's length, not what is left of it
    done = 0
    assert torch.equal(torch.stack(list(loader)), whole)


def test_the_epoch_that_counts_is_the_one_when_the_first_batch_is_due() -> None:
    """The Trainer makes the iterator of a resumed run before it tells the sampler the epoch."""
    sampler = TrainSampler(20, 4, seed=0)
    loader = TrainLoader(Numbers(), sampler, lambda: 0)
    early = iter(loader)
    sampler.set_epoch(3)
    assert torch.equal(torch.stack(list(early)), torch.stack(list(loader)))
