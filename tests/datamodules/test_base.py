import logging
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.base import BaseDataModule, BatchedDataset
from datamodules.sampler import BatchIndex
from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.types import Stage


class Batch(NamedTuple):
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    key: Tensor


class Numbers(BatchedDataset):
    """Samples that are their own number."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, batch: BatchIndex) -> Batch:
        return Batch(batch.index, sample_keys(self.seed, batch.epoch, batch.index))


class NumbersDataModule(BaseDataModule):
    LENGTHS: dict[Stage, int] = {"train": 50, "val": 11, "test": 7}  # noqa: RUF012  # a constant of the test

    def dataset(self, stage: Stage) -> Numbers:
        return Numbers(self.LENGTHS[stage], self.seed)


def epoch_of(loader: Any, epoch: int) -> list[Batch]:
    loader.sampler.set_epoch(epoch)
    return list(loader)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(torch.equal(x.index, y.index) and torch.equal(x.key, y.key) for x, y in zip(a, b, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size >= 1.*got 0"),
        ({"num_workers": -1}, "num_workers >= 0.*-1"),
        ({"eval_batch_size": -4}, "eval_batch_size.*-4"),
        ({"eval_batch_size": 0}, "eval_batch_size.*0"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NumbersDataModule(**options)


def test_a_batch_larger_than_the_training_split_is_refused() -> None:
    with pytest.raises(UserError, match="larger than the training split of 50 samples"):
        NumbersDataModule(batch_size=51).train_dataloader()


@pytest.mark.parametrize(("batch_size", "told"), [(16, "drops its incomplete last batch (2 of 50 samples)"), (25, "")])
def test_the_dropped_samples_are_told(
    batch_size: int, told: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    with caplog.at_level(logging.INFO):
        loader = NumbersDataModule(batch_size=batch_size).train_dataloader()
    assert len(list(loader)) == len(loader) == 50 // batch_size
    assert told in caplog.text
    assert bool(caplog.text) == bool(told)


def test_evaluation_takes_every_sample_once_in_order() -> None:
    data = NumbersDataModule(batch_size=4, eval_batch_size=3)
    for loader, length in (
        (data.val_dataloader(), 11),
        (data.test_dataloader(), 7),
        (data.predict_dataloader(), 7),
    ):
        batches = list(loader)
        assert torch.cat([batch.index for batch in batches]).tolist() == list(range(length))
        assert {len(batch.index) for batch in batches[:-1]} == {3}
    assert len(next(iter(NumbersDataModule(batch_size=4).val_dataloader())).index) == 4


def test_workers_do_not_change_the_batches() -> None:
    """Two epochs, because persistent workers must learn of the second."""
    alone = NumbersDataModule(batch_size=8).train_dataloader()
    helped = NumbersDataModule(batch_size=8, num_workers=2).train_dataloader()
    for epoch in range(2):
        assert same(epoch_of(alone, epoch), epoch_of(helped, epoch))
    assert not same(epoch_of(alone, 0), epoch_of(alone, 1))


def test_the_seed_decides_the_order() -> None:
    batches = []
    for seed in (0, 0, 1):
        data = NumbersDataModule(batch_size=8)
        data.seed = seed
        batches.append([batch.index.tolist() for batch in data.train_dataloader()])
    assert batches[0] == batches[1]
    assert batches[0] != batches[2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_generator_stays_where_it_is(num_workers: int) -> None:
    before = torch.get_rng_state()
    data = NumbersDataModule(batch_size=25, num_workers=num_workers)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for _ in range(2):
            list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def fake_trainer(rank: int, world_size: int, use_distributed_sampler: bool) -> Any:
    connector = SimpleNamespace(use_distributed_sampler=use_distributed_sampler)
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        accumulate_grad_batches=1,
        _accelerator_connector=connector,
        fit_loop=fit_loop,
    )


def test_a_second_sampler_on_several_devices_is_refused() -> None:
    data = NumbersDataModule(batch_size=8)
    data.trainer = fake_trainer(0, 2, use_distributed_sampler=True)
    for make in (data.train_dataloader, data.val_dataloader):
        with pytest.raises(UserError, match=r"trainer\.use_distributed_sampler: .*set false"):
            make()
    data.trainer = fake_trainer(0, 1, use_distributed_sampler=True)  # Lightning's default does no harm on one device
    assert len(data.train_dataloader()) == 6


def test_ranks_share_the_global_batch() -> None:
    whole = NumbersDataModule(batch_size=8).train_dataloader()
    shares = []
    for rank in range(2):
        data = NumbersDataModule(batch_size=8)
        data.trainer = fake_trainer(rank, 2, use_distributed_sampler=False)
        shares.append(list(data.train_dataloader()))
    joined = [Batch(torch.cat([a.index, b.index]), torch.cat([a.key, b.key])) for a, b in zip(*shares, strict=True)]
    assert same(joined, list(whole))


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(batch)
        return self.weight * 1.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Not run; Lightning warns without it."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_trainer_moves_the_epoch_on() -> None:
    recorder, data = Recorder(), NumbersDataModule(batch_size=25)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
        log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=data)
    loader = NumbersDataModule(batch_size=25).train_dataloader()
    assert same(recorder.seen, [batch for epoch in range(3) for batch in epoch_of(loader, epoch)])
