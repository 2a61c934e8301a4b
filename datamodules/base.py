"""The abstract DataModule: splits, keyed order and loaders, the same for every kind of data."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from datamodules.loader import TrainLoader
from datamodules.sampler import BatchIndex, EvaluationSampler, KeyedSampler, TrainSampler
from datamodules.source import DataSource
from toolkit.errors import UserError
from toolkit.types import Stage


class BatchedDataset(Dataset[Any], ABC):
    """A data set that is asked for whole batches: it decodes or slices, collates, and computes the keys."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, batch: BatchIndex) -> Any:
        """A batch of `toolkit.types` with the samples asked for, in that order."""


class BaseDataModule(DataSource, ABC):
    """Data sets for training, validation, test and prediction, and what a task must know about them.

    A subclass implements `dataset` and says as properties what tasks need (``num_classes``, ...); the command line
    links a property to the task's or network's argument of the same name. Order and augmentation of the training data
    are a pure function of (seed, epoch, index): see `datamodules.sampler` and `toolkit.keys`.

    Args:
        batch_size: Samples in one training step, over all devices.
        num_workers: Processes that read ahead; 0 reads in the training process.
        eval_batch_size: Samples in an evaluation batch, over all devices; by default ``batch_size``.
    """

    def __init__(self, batch_size: int = 64, num_workers: int = 0, eval_batch_size: int | None = None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        for name, least in (("batch_size", 1), ("num_workers", 0), ("eval_batch_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"data.init_args.{name}: need {name} >= {least}, got {getattr(self, name)}.")

    @abstractmethod
    def dataset(self, stage: Stage) -> BatchedDataset:
        """The split of a stage; called often, so keep what is expensive."""

    # What a resumed run must share with the one before ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What decides which samples make up which batch."""
        return {"seed": self.seed, "batch_size": self.batch_size, "training samples": len(self.dataset("train"))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn if a resumed run will see other batches."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return  # and reads no training data
        now = self.state_dict()
        if now != state_dict:
            changes = [
                f"{name} {state_dict.get(name)} -> {now[name]}" for name in now if now[name] != state_dict.get(name)
            ]
            rank_zero_warn(f"data: the run goes on, but not exactly as it would have: {', '.join(changes)}.")

    # Loaders ----------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        """Keyed batches of the training split; the incomplete last batch of an epoch is dropped and told."""
        rank, world_size = self._place()
        dataset = self.dataset("train")
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        sampler = self._train_sampler(len(dataset), rank, world_size, accumulate)
        if sampler.dropped:
            rank_zero_info(
                f"data: each epoch drops its incomplete last batch ({sampler.dropped} of {len(dataset)} samples)"
            )
        return TrainLoader(dataset, sampler, self._batches_done, **self._loader_options())

    def _train_sampler(self, length: int, rank: int, world_size: int, accumulate: int) -> KeyedSampler:
        """The order of the training split; a subclass may choose another one."""
        return TrainSampler(length, self.batch_size, self.seed, rank, world_size, accumulate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every sample of the validation split once."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every sample of the test split once."""
        return self._evaluation_loader("test")

    def train_in_order(self) -> DataLoader[Any]:
        """Every sample of the training split once, in its order, on every rank: to measure, not to train."""
        dataset = self.dataset("train")
        sampler = EvaluationSampler(len(dataset), self.eval_batch_size)
        return DataLoader(dataset, batch_size=None, sampler=sampler, **self._loader_options())

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `predict` goes through: the test split, unless a subclass says otherwise."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, stage: Stage) -> DataLoader[Any]:
        dataset = self.dataset(stage)
        sampler = EvaluationSampler(len(dataset), self.eval_batch_size, *self._place())
        return DataLoader(dataset, batch_size=None, sampler=sampler, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": self.num_workers > 0 and torch.cuda.is_available(),
            "generator": torch.Generator(),  # else each new iterator would move the global generator
        }

    def _batches_done(self) -> int:
        """Batches of the running epoch that were trained on: more than 0 when a resumed epoch begins."""
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
