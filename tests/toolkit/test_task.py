import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MetricCollection

from toolkit.errors import UserError
from toolkit.optim.warmup_cosine import WarmupCosine
from toolkit.optim.warmup_linear import WarmupLinear
from toolkit.task import SchedulerConfig, Task
from toolkit.types import Stage, StepOutput

SIZES = [4, 1, 3, 2, 5, 2, 1]
TRAIN = [torch.full((size,), float(2**i)) for i, size in enumerate(SIZES)]
"""Seven unequal batches, any of whose means are different from each other and from those without weights."""


class Mean(Task):
    """The loss of a batch is the mean of its numbers, whatever the network."""

    monitor = "val/score"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        scale: float = 1.0,
        names: Sequence[str] = ("a", "b"),
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        super().__init__(net, optimizer, scheduler, scheduler_config, metrics=MetricCollection({"score": MeanMetric()}))
        self.scale = scale
        self.names = names

    def step(self, batch: Tensor, stage: Stage) -> StepOutput:
        loss = self.scale * batch.mean() + 0 * self.net(batch.new_ones(1, 1)).sum()
        self.record(stage, len(batch), loss=loss)
        if stage != "train":
            self.metrics(stage).update(batch)
        return StepOutput(loss, batch)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return batch


class Memory(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name = "memory"
    version = "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Not kept."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, metrics))

    def of(self, name: str) -> dict[int, float]:
        return {step: row[name] for step, row in self.rows if name in row}


def fit(task: Task, train: list[Tensor] = TRAIN, val: list[Tensor] | None = None, **options: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "log_every_n_steps": 1,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
    }  # fmt: skip
    trainer = Trainer(**defaults | options)
    trainer.fit(task, loader(train), loader(val or TRAIN))
    return trainer


def scheduler_of(trainer: Trainer) -> Any:
    (config,) = trainer.lr_scheduler_configs
    return config.scheduler


def loader(batches: list[Tensor]) -> DataLoader[Tensor]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list is a data set


def mean(batches: list[Tensor]) -> float:
    return torch.cat(batches).mean().item()


def task(**options: Any) -> Mean:
    return Mean(nn.Linear(1, 1), **options)


# Logging --------------------------------------------------------------------------------------------------------------


def test_training_logs_the_samples_mean_since_the_last_logged_step() -> None:
    logger = Memory()
    fit(task(), logger=logger, log_every_n_steps=3)
    assert logger.of("train/loss") == pytest.approx({2: mean(TRAIN[:3]), 5: mean(TRAIN[3:6])})


def test_a_window_goes_on_over_the_end_of_an_epoch() -> None:
    """Logged every third step of epochs of four: the second window is the last batch of one and two of the next."""
    logger = Memory()
    fit(task(), train=TRAIN[:4], logger=logger, log_every_n_steps=3, max_epochs=2)
    assert logger.of("train/loss") == pytest.approx({2: mean(TRAIN[:3]), 5: mean([TRAIN[3], *TRAIN[:2]])})
    assert logger.of("train/loss_epoch") == pytest.approx({3: mean(TRAIN[:4]), 7: mean(TRAIN[:4])})


def test_windows_count_optimizer_steps_where_gradients_accumulate() -> None:
    logger = Memory()
    fit(task(), train=TRAIN[:6], logger=logger, log_every_n_steps=2, accumulate_grad_batches=2)
    assert logger.of("train/loss") == pytest.approx({1: mean(TRAIN[:4])})


def test_epoch_means_weigh_samples_and_not_batches() -> None:
    logger, val = Memory(), TRAIN[2:5]
    trainer = fit(task(scale=0.5), val=val, logger=logger, max_epochs=2)
    for name, expected in (
        ("train/loss_epoch", mean(TRAIN) / 2),
        ("val/loss", mean(val) / 2),
        ("val/score", mean(val)),
    ):
        assert logger.of(name) == pytest.approx({6: expected, 13: expected})
    (tested,) = trainer.test(trainer.lightning_module, loader(TRAIN[4:]), verbose=False)
    assert tested == pytest.approx({"test/loss": mean(TRAIN[4:]) / 2, "test/score": mean(TRAIN[4:])})


def test_the_sanity_check_leaves_no_trace() -> None:
    trainer = fit(task(), num_sanity_val_steps=2)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(mean(TRAIN))


def test_a_validation_that_was_left_in_its_middle_is_forgotten() -> None:
    class Left(Callback):
        def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
            raise RuntimeError("left")

    probe, quiet = task(), {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    with pytest.raises(RuntimeError, match="left"):
        Trainer(callbacks=[Left()], **quiet).validate(probe, loader(TRAIN), verbose=False)
    (values,) = Trainer(**quiet).validate(probe, loader(TRAIN[2:4]), verbose=False)
    assert values["val/loss"] == pytest.approx(mean(TRAIN[2:4]))
    assert values["val/score"] == pytest.approx(mean(TRAIN[2:4]))


def test_the_number_of_accumulated_batches_may_change() -> None:
    """The callback sets it when the fit has begun; the gradient is the mean over the window all the same."""

    class Slope(Mean):
        def step(self, batch: Tensor, stage: Stage) -> StepOutput:
            loss = self.net(batch[:, None]).mean()
            self.record(stage, len(batch), loss=loss)
            return StepOutput(loss, batch, len(batch))

    weights = []
    for options in ({"accumulate_grad_batches": 4}, {"callbacks": [GradientAccumulationScheduler({0: 4})]}):
        torch.manual_seed(0)
        probe = Slope(nn.Linear(1, 1), optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
        fit(probe, limit_val_batches=0, **options)
        weights.append(torch.cat([p.detach().flatten() for p in probe.parameters()]))
    torch.testing.assert_close(weights[0], weights[1])


def test_record_refuses_other_scalars_than_declared() -> None:
    with pytest.raises(AssertionError, match="declares \\['loss'\\]"):
        task().record("val", 1, acc=torch.tensor(1.0))


# Optimizer ------------------------------------------------------------------------------------------------------------


def test_default_optimizer_is_adamw_over_what_trains() -> None:
    probe = Mean(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)))
    for parameter in probe.net[0].parameters():  # type: ignore[index]
        parameter.requires_grad = False
    optimizer = probe.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults == torch.optim.AdamW([torch.zeros(1)]).defaults
    assert optimizer.param_groups[0]["params"] == list(probe.net[1].parameters())  # type: ignore[index]


def test_a_network_that_is_all_frozen_is_refused() -> None:
    probe = task()
    probe.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train; unfreeze a layer"):
        probe.configure_optimizers()


class _Sgd:
    """An optimizer argument, as the command line makes one."""

    def __call__(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)


def with_scheduler(scheduler: Any, **config: Any) -> Mean:
    return task(optimizer=_Sgd(), scheduler=scheduler, scheduler_config=SchedulerConfig(**config))


@pytest.mark.parametrize(
    ("options", "total_steps"),
    [
        ({"max_epochs": 3}, 21),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 12),  # the last of an epoch steps with one batch
        ({"max_epochs": -1, "max_steps": 5}, 5),
        ({"max_epochs": 3, "max_steps": 5}, 5),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
    ],
)
def test_horizon_follows_from_the_length_of_the_run(options: dict[str, Any], total_steps: int) -> None:
    trainer = fit(with_scheduler(WarmupCosine), **options)
    assert trainer.lr_scheduler_configs[0].interval == "step"
    assert scheduler_of(trainer).total_steps == total_steps
    assert trainer.global_step == total_steps
    assert scheduler_of(trainer).last_epoch == total_steps


def test_learning_rates_given_now_win_over_a_checkpoints_where_nothing_schedules_them() -> None:
    def optimizer(lr: float) -> torch.optim.Optimizer:
        probe = Mean(nn.Linear(1, 1))
        probe.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=lr)
        made = probe.configure_optimizers()
        assert isinstance(made, torch.optim.Optimizer)
        return made

    now = optimizer(0.01)
    now.load_state_dict(optimizer(0.1).state_dict())
    assert [group["lr"] for group in now.param_groups] == [0.01]


@pytest.mark.parametrize(
    ("config", "updates"),
    [({"interval": "epoch"}, 4), ({"interval": "epoch", "frequency": 2}, 2), ({"frequency": 3}, 8)],
)
def test_horizon_counts_the_schedulers_own_steps(config: dict[str, Any], updates: int) -> None:
    """Whatever the interval and frequency, the learning rate arrives at its end when the training does."""
    trainer = fit(with_scheduler(partial(WarmupLinear, warmup=0), **config), train=TRAIN[:6], max_epochs=4)
    scheduler = scheduler_of(trainer)
    assert (scheduler.last_epoch, scheduler.total_steps) == (updates, updates)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_a_horizon_that_is_given_stays() -> None:
    trainer = fit(with_scheduler(partial(WarmupCosine, total_steps=100)))
    assert scheduler_of(trainer).total_steps == 100


@pytest.mark.parametrize("config", [{}, {"interval": "epoch"}])
def test_a_run_without_end_needs_a_horizon(config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"the length of the run, which is .*set trainer\.max_epochs"):
        fit(with_scheduler(WarmupCosine, **config), max_epochs=-1)


def test_torchs_own_schedulers_step_by_epoch_unless_told() -> None:
    (config,) = fit(with_scheduler(partial(StepLR, step_size=1, gamma=0.5)), max_epochs=2).lr_scheduler_configs
    assert (config.interval, config.frequency, config.scheduler.last_epoch) == ("epoch", 1, 2)
    (config,) = fit(with_scheduler(partial(StepLR, step_size=1), interval="step")).lr_scheduler_configs
    assert (config.interval, config.scheduler.last_epoch) == ("step", len(TRAIN))


def test_plateau_watches_the_tasks_metric_unless_told() -> None:
    plateau = partial(ReduceLROnPlateau, mode="max", patience=0)
    (config,) = fit(with_scheduler(plateau), max_epochs=3).lr_scheduler_configs
    assert config.monitor == "val/score"
    assert config.scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)  # no better in epochs 2 and 3
    (config,) = fit(with_scheduler(plateau, monitor="val/loss")).lr_scheduler_configs
    assert config.monitor == "val/loss"


# Checkpoints ----------------------------------------------------------------------------------------------------------


def saved(probe: Task, folder: Path) -> Path:
    fit(probe, train=TRAIN[:1]).save_checkpoint(folder / "a.ckpt", weights_only=False)
    return folder / "a.ckpt"


def test_plain_arguments_are_kept_and_can_be_overridden(tmp_path: Path) -> None:
    path = saved(Mean(nn.Linear(1, 1), 3.0, names=["x", "y"]), tmp_path)
    loaded = Mean.load_from_checkpoint(path, net=nn.Linear(1, 1))
    assert (loaded.scale, list(loaded.names)) == (3.0, ["x", "y"])
    assert Mean.load_from_checkpoint(path, net=nn.Linear(1, 1), scale=5.0).scale == 5.0
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"] == {"scale": 3.0, "names": ["x", "y"]}
    assert content["task"].endswith("test_task.Mean")


def test_numpy_scalars_among_the_arguments_are_kept_as_plain_numbers(tmp_path: Path) -> None:
    """As of ``np.unique(labels)`` or class weights that numpy computed; they are floats and strings to Python."""
    probe = Mean(nn.Linear(1, 1), np.float64(3.0), names=[np.str_("x")])
    loaded = Mean.load_from_checkpoint(saved(probe, tmp_path), net=nn.Linear(1, 1))
    assert (loaded.scale, list(loaded.names)) == (3.0, ["x"])
    assert type(loaded.scale) is float


class Passing(Mean):
    """A subclass that passes what it does not know on."""

    def __init__(self, net: nn.Module, *, extra: int = 0, **kwargs: Any) -> None:
        super().__init__(net, **kwargs)
        self.extra = extra


def test_arguments_that_are_passed_on_are_kept_by_their_own_names(tmp_path: Path) -> None:
    path = saved(Passing(nn.Linear(1, 1), extra=2, scale=3.0), tmp_path)
    loaded = Passing.load_from_checkpoint(path, net=nn.Linear(1, 1))
    assert (loaded.extra, loaded.scale) == (2, 3.0)


def test_a_copy_is_a_task_of_its_own() -> None:
    net = nn.Linear(1, 1)
    twin = copy.deepcopy(Mean(net, scale=2.0))
    with torch.no_grad():
        net.weight += 1
    assert twin.scale == 2.0
    assert not torch.equal(twin.state_dict()["net.weight"], net.weight)


def test_weights_that_do_not_fit_are_named() -> None:
    other = Mean(nn.Sequential(nn.Linear(1, 2)))
    with pytest.raises(
        UserError, match=r"written by my\.Other.* 4 tensors differ.*net\.0\.bias: unknown to this model"
    ) as error:
        task().on_load_checkpoint({"state_dict": other.state_dict(), "task": "my.Other"})
    assert "net.bias: missing in the checkpoint" in str(error.value)
    wide = Mean(nn.Linear(3, 1))
    with pytest.raises(UserError, match=r"1 tensors differ.*net\.weight: \(1, 3\) in the checkpoint, \(1, 1\) in this"):
        task().on_load_checkpoint({"state_dict": wide.state_dict()})
    task().on_load_checkpoint({"state_dict": task().state_dict()})


@pytest.mark.parametrize("address", ["http://example.com/a.ckpt", "s3://bucket/a.ckpt", "nowhere.ckpt", "."])
def test_only_existing_local_files_are_read(address: str) -> None:
    with pytest.raises(UserError, match="need an existing local file, got"):
        Mean.load_from_checkpoint(address)


def test_a_run_is_extended_from_its_checkpoint(tmp_path: Path) -> None:
    """The horizon is that of the longer run, the weights and the step those of the checkpoint."""
    first = with_scheduler(WarmupCosine)
    path = saved(first, tmp_path)
    second = with_scheduler(WarmupCosine)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(second, loader(TRAIN[:1]), loader(TRAIN), ckpt_path=path, weights_only=True)
    assert trainer.global_step == 3
    assert scheduler_of(trainer).total_steps == 3


def test_a_plateau_of_the_wrong_direction_is_refused() -> None:
    """Watching a metric that is better when large with torch's default would cut the learning rate as it improves."""

    class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            super().__init__(optimizer)

    with pytest.raises(
        UserError, match=r"Plateau with mode 'min' watches val/score, which is better when large; write mode: max"
    ):
        fit(with_scheduler(Plateau))
