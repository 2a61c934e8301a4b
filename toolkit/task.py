"""The abstract task: what every family's LightningModule shares, and nothing that only some of them need."""

import contextlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerConfig, OptimizerLRScheduler, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.global_mean import GlobalMean, parameters_of
from toolkit.metrics.running_means import RunningMeans
from toolkit.nn.frozen import frozen_parts
from toolkit.nn.layer_decay import check_layer_decay, parameter_groups, scale_learning_rates
from toolkit.nn.lora import LoRA, adapt
from toolkit.nn.pretrained import PretrainedNetwork, without_pretrained
from toolkit.optim.horizon import HorizonScheduler
from toolkit.secrets import mask_hyperparameters
from toolkit.sharding import shard
from toolkit.types import Baseline, Stage, StepOutput


@dataclass(frozen=True)
class SchedulerConfig:
    """When the learning-rate scheduler steps.

    Args:
        interval: After every optimizer step or every epoch; by default what suits the scheduler: steps for those of
            `toolkit.optim`, epochs for torch's.
        frequency: Step every so many intervals.
        monitor: The metric that ``ReduceLROnPlateau`` watches; by default the task's own.
    """

    interval: Literal["step", "epoch"] | None = None
    frequency: int = 1
    monitor: str | None = None


class Task(LightningModule, ABC):
    """A network, its loss, its metrics and its optimizer: everything of a training but the data and the loop.

    A family implements `step` (one batch to a loss) and `predict_step`. `step` reports through `record`, and updates
    ``self.metrics(stage)``; this class logs: in training the means since the last logged step, in evaluation the exact
    means over the epoch, whatever the number of devices.

    Args:
        net: The network.
        optimizer: From parameters to an optimizer; AdamW with torch's defaults if None.
        scheduler: From optimizer to a learning-rate scheduler; constant if None.
        scheduler_config: When the scheduler steps.
        metrics: Metrics of validation and test, named without stage; cloned for each stage.
        scalars: Names of the values that `record` takes.
        evaluation_scalars: Those of validation and test, where they are others.
    """

    monitor: ClassVar[str] = "val/loss"
    """The metric that says which checkpoint is best."""
    mode: ClassVar[Literal["min", "max"]] = "min"
    """Whether the monitored metric is better when small or large."""
    is_mean_over_samples: ClassVar[bool] = True
    """Whether a batch's loss is the mean of its samples' losses, so that a batch can be computed in parts."""
    input_kind: ClassVar[str | None] = None
    """What `predict --input` reads for this task ("image", ...); None: only a DataModule's own samples."""

    predict_batch_size: ClassVar[int] = 64
    """Files that `predict --input` puts into a batch unless it is told otherwise."""

    learning_rate_factor: float = 1.0
    """By what the optimizer's learning rates are multiplied; the command line sets it by its ``scaling``."""
    layer_decay: float = 1.0
    """By what the learning rate falls from one stage of the network to the one below; see `toolkit.nn.layer_decay`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the plain constructor arguments, so that a task built in Python reloads with its network alone."""
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        given = dict(signature.bind_partial(self, *args, **kwargs).arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name, {})  # passed on to a base class, by their own names
        plain = {name: _plain(value) for name, value in given.items() if _is_plain(value)}
        object.__setattr__(self, "_plain_arguments", plain)
        return self

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
        *,
        metrics: MetricCollection | None = None,
        scalars: Sequence[str] = ("loss",),
        evaluation_scalars: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._save_arguments()
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_config = scheduler_config or SchedulerConfig()
        self._with_step: dict[str, float] = {}
        self._part = 1.0
        """Of its batch, in a `training_step`."""
        self._always_resting: list[nn.Module] = []
        self._resting: list[nn.Module] = []
        """Parts of the network that compute as in evaluation in training, too."""
        stages: tuple[Stage, ...] = ("train", "val", "test")
        metrics = metrics or MetricCollection({})
        evaluated = scalars if evaluation_scalars is None else evaluation_scalars
        names = {stage: scalars if stage == "train" else evaluated for stage in stages}
        self._means = nn.ModuleDict({f"{stage}_means": RunningMeans(names[stage]) for stage in stages})
        self._metrics_of = nn.ModuleDict({f"{s}_metrics": metrics.clone(prefix=f"{s}/") for s in ("val", "test")})

    @abstractmethod
    def step(self, batch: Any, stage: Stage) -> StepOutput:
        """Loss of one batch, and in evaluation its prediction; calls `record` and updates the stage's metrics."""

    @abstractmethod
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """A typed structure of `toolkit.types` that can be written to a file."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own forward."""
        return self.net(*args, **kwargs)

    def baseline(self, data: Any, stage: Stage) -> Baseline | None:
        """What a predictor that learned nothing scores on "val" or "test", to stand beside the results.

        Args:
            data: The DataModule, which knows what the labels allow; that is the answer here.
            stage: Which split.
        """
        baseline: Baseline | None = data.baseline(stage)
        return baseline

    def configure_model(self) -> None:
        """Deal the parameters to the devices if the strategy asks for it."""
        if self._device_mesh is not None:
            shard(self, self._device_mesh["data_parallel"])

    # A network that is trained in part --------------------------------------------------------------------------------

    def fine_tune(self, layer_decay: float = 1.0, lora: LoRA | None = None) -> None:
        """For the constructor of a task whose network may be a pretrained one.

        Args:
            layer_decay: By what the learning rate falls from one stage of the network to the one below.
            lora: Train adapters and the network's last stage, and nothing else of it.

        Raises:
            UserError: The share is out of its range, the package ``peft`` is missing, or no layer fits.
        """
        check_layer_decay(layer_decay)
        self.layer_decay = layer_decay
        if lora is not None:
            adapt(self.net, lora)
            self.rest_frozen()

    def rest_frozen(self, more: Sequence[nn.Module] = ()) -> None:
        """Let what of the network does not train compute as in evaluation, from now on.

        A frozen BatchNorm keeps its statistics, and nothing is dropped in a frozen part. To be called again when
        something else is frozen; before, `train` if something has thawed.

        Args:
            more: Parts that rest from now on whether they have parameters or not, such as a BatchNorm without scales.
        """
        self._always_resting = [*self._always_resting, *more]
        self._resting = [*frozen_parts(self.net), *self._always_resting]
        for part in self._resting:
            part.eval()

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; what rests stays in evaluation."""
        super().train(mode)
        for part in getattr(self, "_resting", ()):
            part.eval()
        return self

    # What step reports ------------------------------------------------------------------------------------------------

    def metrics(self, stage: Stage) -> MetricCollection:
        """The metrics of "val" or "test"."""
        collection = self._metrics_of[f"{stage}_metrics"]
        assert isinstance(collection, MetricCollection)
        return collection

    def means(self, stage: Stage) -> RunningMeans:
        """The accumulated scalars of a stage."""
        means = self._means[f"{stage}_means"]
        assert isinstance(means, RunningMeans)
        return means

    def record(self, stage: Stage, weight: Tensor | float | Sequence[Tensor], **values: Tensor) -> None:
        """Accumulate scalars of one batch on the device; they are logged later as means over all ranks.

        Args:
            stage: Which stage's means.
            weight: How many samples (or tokens) the values stand for: one number for all, or one each.
            **values: The batch's mean of each scalar, in the order of the constructor's ``scalars``.
        """
        means = self.means(stage)
        assert list(values) == means.names, f"record() got {list(values)}, the task declares {means.names}"
        means.add(list(values.values()), weight)

    # The loop's hooks -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Forget what an interrupted fit left, and say which weights are pretrained; a resumed one has its own."""
        if self.trainer.ckpt_path is None:
            self.means("train").reset()
            for network in self.net.modules():  # a resumed run has its weights from its checkpoint
                if isinstance(network, PretrainedNetwork) and network.transfer is not None:
                    for line in network.transfer.lines():
                        rank_zero_info(line)
        self.begin_global_mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One call is one *training step*: what ``max_steps``, schedules, checkpoints and the x axis count."""
        output = self.step(batch, "train")
        return self._share_of_global_mean(output.loss, output.weight)

    def _share_of_global_mean(self, loss: Tensor, weight: Tensor | float | None) -> Tensor:
        if self._trainer is None or (self._pieces() == 1 and self._part == 1.0):
            return loss
        weight = self._part if weight is None else weight
        mean_weight = weight
        if isinstance(weight, Tensor):
            weight = weight.detach().to(torch.promote_types(loss.dtype, torch.float32))
            mean_weight = weight
            if self.trainer.world_size > 1:
                mean_weight = self.trainer.strategy.reduce(weight.clone(), reduce_op="mean")
        return self._global_mean.weigh(loss, weight, mean_weight)

    def _pieces(self) -> int:
        return self.trainer.world_size * self.trainer.accumulate_grad_batches

    @contextlib.contextmanager
    def part_of_batch(self, share: float) -> Iterator[None]:
        """For a `training_step` on a part of its batch, whose gradients add up with those of the other parts."""
        self._part = share
        try:
            yield
        finally:
            self._part = 1.0

    def begin_global_mean(self) -> None:
        """Begin an optimizer step, or begin it again."""
        self._global_mean = GlobalMean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the gradients those of the mean over all that was accumulated."""
        self._global_mean.correct(parameters_of(optimizer), self.trainer.accumulate_grad_batches)  # it may change

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the window's means, on logging steps only: every logged key costs a quarter millisecond a step."""
        if self.trainer._logger_connector.should_update_logs and not self.trainer.fit_loop._should_accumulate():
            means = self.means("train")
            window = self.trainer.strategy.reduce(means.window(), reduce_op="sum")
            means.mark()
            assert isinstance(window, Tensor)
            self._log_step({f"train/{name}": value for name, value in means.means_of(window.cpu()).items()})

    def log_with_step(self, values: Mapping[str, float]) -> None:
        """Add to the row of this logging step: for callbacks, before the step's end."""
        self._with_step |= values

    def _log_step(self, values: dict[str, Tensor]) -> None:
        """What ``log_dict`` does for values of one step, without its 300 us a key."""
        connector = self.trainer._logger_connector
        row: dict[str, Any] = {**self._with_step, **values}
        connector.log_metrics(row)
        connector._callback_metrics.update(values)
        connector._progress_bar_metrics.update({name: value.item() for name, value in values.items()})
        self._with_step = {}

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means as ``train/<name>_epoch``."""
        means = self.means("train")
        self._log_epoch({f"train/{name}_epoch": value for name, value in means.compute().items()})
        means.next_epoch()

    def on_validation_epoch_start(self) -> None:
        """Evaluate the same model on every rank: that of rank 0, which the checkpoint holds."""
        self._begin_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Evaluate the same model on every rank."""
        self._begin_evaluation("test")

    def _begin_evaluation(self, stage: Stage) -> None:
        """Forget an evaluation that was left in its middle.

        BatchNorm's statistics follow a rank's own batches; DDP shares rank 0's before a training step only.
        """
        self.means(stage).reset()
        self.metrics(stage).reset()
        if self.trainer.world_size > 1:
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Accumulate; nothing is logged before the epoch's end. Callbacks get the prediction as ``outputs``."""
        return self.step(batch, "val").prediction

    def on_validation_epoch_end(self) -> None:
        """Log the exact means and metrics of the whole validation set."""
        self._log_evaluation("val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Accumulate; nothing is logged before the epoch's end. Callbacks get the prediction as ``outputs``."""
        return self.step(batch, "test").prediction

    def on_test_epoch_end(self) -> None:
        """Log the exact means and metrics of the whole test set."""
        self._log_evaluation("test")

    def _log_evaluation(self, stage: Stage) -> None:
        means, metrics = self.means(stage), self.metrics(stage)
        self._log_epoch({f"{stage}/{name}": value for name, value in means.compute().items()} | metrics.compute())
        means.reset()
        metrics.reset()

    def _log_epoch(self, values: dict[str, Tensor]) -> None:
        # The values are already equal on all ranks; sync_dist only tells Lightning that this was thought of.
        self.log_dict(values, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    # Optimizer --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and scheduler over the parameters that train; a horizon is told here."""
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise UserError("model: no parameter requires a gradient, so there is nothing to train; unfreeze a layer.")
        groups = self.parameter_groups()
        optimizer = self.optimizer(groups) if self.optimizer else torch.optim.AdamW(groups)
        scale_learning_rates(optimizer, self.layer_decay)
        scheduled = self._scheduled(optimizer)
        return scheduled if "lr_scheduler" in scheduled else optimizer

    def parameter_groups(self) -> list[Any]:
        """What the optimizer gets: the parameters that train; in groups by stage where `layer_decay` says so."""
        if self.layer_decay == 1:
            return [parameter for parameter in self.parameters() if parameter.requires_grad]
        own = set(map(id, self.net.parameters()))
        others = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return parameter_groups(self.net, self.layer_decay, others, decay_vectors=True)

    def _scheduled(self, optimizer: Optimizer) -> OptimizerConfig | OptimizerLRSchedulerConfig:
        """An optimizer with the schedule that was asked for."""
        for group in optimizer.param_groups:
            group["lr"] *= self.learning_rate_factor
        if self.scheduler is None:
            _keep_learning_rates(optimizer)
            return {"optimizer": optimizer}
        scheduler = self.scheduler(optimizer)
        sets_rates = isinstance(scheduler, (torch.optim.lr_scheduler.OneCycleLR, torch.optim.lr_scheduler.CyclicLR))
        if sets_rates and (self.layer_decay, self.learning_rate_factor) != (1, 1):
            raise UserError(
                f"model.init_args.scheduler: {type(scheduler).__name__} sets the learning rates itself, whatever "
                "layer_decay or --scaling says; write WarmupCosine, or leave them out."
            )
        has_horizon = isinstance(scheduler, HorizonScheduler)
        interval = self.scheduler_config.interval or ("step" if has_horizon else "epoch")
        if isinstance(scheduler, HorizonScheduler) and scheduler.total_steps is None:
            scheduler.set_total_steps(self._horizon(interval))
        own = scheduler.monitor if isinstance(scheduler, ReduceLROnPlateau) else None
        monitor = self.scheduler_config.monitor or own or self.monitor
        mode = scheduler.mode if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else self.mode
        if monitor == self.monitor and mode != self.mode:
            raise UserError(
                f"model.init_args.scheduler: {type(scheduler).__name__} with mode {mode!r} watches {monitor}, "
                f"which is better when {'small' if self.mode == 'min' else 'large'}; write mode: {self.mode}."
            )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": interval,
                "frequency": self.scheduler_config.frequency,
                "monitor": monitor,
            },
        }

    def _horizon(self, interval: Literal["step", "epoch"]) -> int:
        horizon = self.trainer.estimated_stepping_batches if interval == "step" else self.trainer.max_epochs
        if horizon is None or not 0 < horizon < float("inf"):
            flags = "trainer.max_epochs or trainer.max_steps" if interval == "step" else "trainer.max_epochs"
            raise UserError(
                f"model.init_args.scheduler: its horizon follows from the length of the run, which is {horizon}; "
                f"set {flags}, or the scheduler's total_steps."
            )
        return max(1, int(horizon) // self.scheduler_config.frequency)

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _save_arguments(self) -> None:
        """Keep what rebuilds this task: the CLI's description if it made the task, else the plain arguments."""
        if _given_hyperparameters.get() is not None:
            self.save_hyperparameters(logger=False)
        else:
            self.save_hyperparameters(self.__dict__["_plain_arguments"], logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which task this is, and the accumulated means of every rank; mask secrets among the arguments."""
        checkpoint["task"] = f"{type(self).__module__}.{type(self).__qualname__}"
        if isinstance(self.net, PretrainedNetwork):
            _describe(checkpoint, self.net.found_arguments())
        mask_hyperparameters(checkpoint)  # here, for a checkpoint of weights only passes by the callbacks
        if self._trainer is not None and self.trainer.state.fn == "fit":
            states: Any = self.all_gather(self.means("train").state())  # ([ranks,] 2, 2, N)
            checkpoint["train_sums"] = states.reshape(-1, *states.shape[-3:]).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another task's or network's weights before anything is loaded; restore the means when training.

        Raises:
            UserError: Names the first weights that do not fit.
        """
        stored, own = checkpoint["state_dict"], self.state_dict()
        wrong = [f"{name}: missing in the checkpoint" for name in own.keys() - stored.keys()]
        wrong += [f"{name}: unknown to this model" for name in stored.keys() - own.keys()]
        wrong += [
            f"{name}: {tuple(stored[name].shape)} in the checkpoint, {tuple(own[name].shape)} in this model"
            for name in own.keys() & stored.keys()
            if stored[name].shape != own[name].shape
        ]
        fitting = self._trainer is not None and self.trainer.state.fn == "fit"
        if fitting and "train_sums" in checkpoint:
            ours, theirs = (len(state[0, 0]) for state in (self.means("train").state(), checkpoint["train_sums"][0]))
            wrong += [f"means of the epoch: {theirs} in the checkpoint, {ours} of this task"] if ours != theirs else []
        if wrong:
            raise UserError(
                f"checkpoint: it was written by {checkpoint.get('task', 'an unknown task')} and does not fit this "
                f"{type(self).__name__}; {len(wrong)} tensors differ, such as {'; '.join(sorted(wrong)[:3])}. "
                "Give the checkpoint of a run with the same task and network."
            )
        if self._trainer is not None:  # Lightning converts after loading, and 64 bits would pass through 32
            self.trainer.precision_plugin.convert_module(self)
        if fitting and "train_sums" in checkpoint:
            self._restore_means(checkpoint["train_sums"])

    def _restore_means(self, states: Tensor) -> None:
        """Each rank its own; on another number of ranks the first one gets all."""
        if len(states) == self.trainer.world_size:
            self.means("train").restore(states[self.trainer.global_rank])
        elif self.trainer.is_global_zero:
            self.means("train").restore(states.sum(dim=0))

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Rebuild a task from a checkpoint file, never from an address, and never downloading pretrained weights.

        Args:
            checkpoint_path: A local file. Tensors and plain values only are read (``weights_only=True``).
            **kwargs: As Lightning's; constructor arguments given here win. A task that was built in Python needs its
                network: ``load_from_checkpoint(path, net=net)``.

        Raises:
            UserError: There is no such file, it is an address, or it does not say how to build the network.
        """
        path = Path(checkpoint_path)
        if "://" in str(checkpoint_path) or not path.is_file():
            raise UserError(f"checkpoint: need an existing local file, got {str(checkpoint_path)!r}.")
        kwargs.setdefault("map_location", "cpu")
        # Lightning rebuilds modules by calls that jsonargparse 5 will remove; the dependency is bounded for it.
        os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        with without_pretrained():
            try:
                return super().load_from_checkpoint(path, weights_only=True, **kwargs)
            except TypeError as error:
                if "missing" not in str(error):
                    raise
                raise UserError(
                    f"checkpoint {str(path)!r}: it was written by a task built in Python and does not describe its "
                    f"modules; load it with {cls.__name__}.load_from_checkpoint(path, net=net). ({error})"
                ) from error


def _describe(checkpoint: dict[str, Any], found: dict[str, Any]) -> None:
    """Add what a network has found to its description, in copies: the task's own are also the run's config."""
    parameters = checkpoint.get("hyper_parameters", {})
    net = parameters.get("net")
    if found and isinstance(net, dict):
        net = {**net, "init_args": {**net.get("init_args", {}), **found}}
        checkpoint["hyper_parameters"] = {**parameters, "net": net}


def _keep_learning_rates(optimizer: Optimizer) -> None:
    """Let the learning rates given now win over those of a checkpoint, as `HorizonScheduler` lets its own."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]

    def put_back(loaded: Optimizer) -> None:
        for group, rate in zip(loaded.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    optimizer.register_load_state_dict_post_hook(put_back)


def _is_plain(value: Any) -> bool:
    """Whether a value survives a checkpoint that holds tensors and plain data only."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, _flatten(value)))
    return value is None or isinstance(value, (bool, int, float, str))


def _plain(value: Any) -> Any:
    """A plain value without numpy's scalars, which are Python's by inheritance but not to a checkpoint's reader."""
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _flatten(mapping: dict[Any, Any]) -> Iterator[Any]:
    yield from mapping.keys()
    yield from mapping.values()
