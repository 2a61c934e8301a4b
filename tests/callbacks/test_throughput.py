import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.throughput import Throughput, batch_length, peak_memory
from toolkit.task import Task
from toolkit.types import Stage, StepOutput

STEP, PAUSE = 0.01, 0.25


class Recorder(Logger):
    name = version = "recorder"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if any(name.startswith("perf/") for name in metrics):
            self.rows.append((step, dict(metrics)))


class Slow(Task):
    """A step takes 10 ms, the first and every validation a quarter of a second."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))
        self.first = True

    def step(self, batch: list[Tensor], stage: Stage) -> StepOutput:
        time.sleep(STEP if stage == "train" and not self.first else PAUSE)
        self.first = self.first and stage != "train"
        loss = self.net(batch[0]).square().mean()
        self.record(stage, len(batch[0]), loss=loss)
        return StepOutput(loss)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        raise NotImplementedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SlowSave(Callback):
    """Saves slowly, after the throughput's turn, when a batch ends and when another starts."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            self.save(trainer)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step in (4, 11):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.file)
        time.sleep(PAUSE)


def fit(*extra: Callback, batches: int = 8, **options: Any) -> list[tuple[int | None, dict[str, float]]]:
    logger = Recorder()
    trainer = Trainer(logger=logger, callbacks=[Throughput(), *extra], accelerator="cpu", enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip
    train = DataLoader(TensorDataset(torch.zeros(5 * batches, 1)), batch_size=5)
    trainer.fit(Slow(), train, DataLoader(TensorDataset(torch.zeros(1, 1))))
    return logger.rows


def test_rate_without_first_step_validation_and_checkpoints(tmp_path: Any) -> None:
    rows = fit(SlowSave(str(tmp_path / "a.ckpt")), max_epochs=2, log_every_n_steps=6, val_check_interval=2)
    assert [step for step, _ in rows] == [5, 11]
    for _, row in rows:
        assert STEP <= row["perf/step_seconds"] < 3 * STEP
        assert row["perf/samples_per_second"] == pytest.approx(5 / row["perf/step_seconds"], rel=1e-6)
        assert 0.05 < row["perf/peak_memory_gb"] < 50


def test_steps_that_accumulate_count_once() -> None:
    rows = fit(max_epochs=1, log_every_n_steps=3, accumulate_grad_batches=2, limit_val_batches=0)
    assert [step for step, _ in rows] == [2]
    row = rows[0][1]
    assert 2 * STEP <= row["perf/step_seconds"] < 6 * STEP
    assert row["perf/samples_per_second"] == pytest.approx(10 / row["perf/step_seconds"], rel=1e-6)


def test_a_second_fit_starts_its_own_clock() -> None:
    meter, logger = Throughput(), Recorder()
    for _ in range(2):
        trainer = Trainer(logger=logger, callbacks=meter, accelerator="cpu", enable_checkpointing=False, max_steps=3,
                          enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=3,
                          limit_val_batches=0)  # fmt: skip
        train = DataLoader(TensorDataset(torch.zeros(15, 1)), batch_size=5)
        trainer.fit(Slow(), train, DataLoader(TensorDataset(torch.zeros(1, 1))))
    assert [step for step, _ in logger.rows] == [2, 2]
    assert all(row["perf/step_seconds"] < PAUSE / 2 for _, row in logger.rows)


def test_all_ranks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "world_size", 4)
    row = fit(max_epochs=1, log_every_n_steps=4, limit_val_batches=0)[0][1]
    assert row["perf/samples_per_second"] == pytest.approx(4 * 5 / row["perf/step_seconds"], rel=1e-6)


@pytest.mark.parametrize(
    ("batch", "length"),
    [
        (torch.zeros(3, 2), 3),
        ((torch.zeros(4, 2), torch.zeros(7)), 4),
        ({"text": "abc", "ids": torch.zeros(2, 9)}, 2),
        ([["a", "b"], [{"x": torch.zeros(6)}]], 6),
        (torch.tensor(1.0), 1),
        ("no tensor", 0),
        (None, 0),
    ],
)
def test_batch_length(batch: Any, length: int) -> None:
    assert batch_length(batch) == length


def test_peak_memory_of_the_process_is_in_bytes() -> None:
    kept = torch.ones(2**24)  # 64 MiB
    assert 2**26 < peak_memory(kept.device) < 2**37
