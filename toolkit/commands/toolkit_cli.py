"""LightningCLI over tasks and DataModules: parser, links, run folder, default callbacks."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, _InstantiatorFn
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from toolkit.allow_list import allow, enforce
from toolkit.asynchronous_checkpoint_io import AsynchronousCheckpointIO
from toolkit.checkpoint_io import DurableCheckpointIO
from toolkit.commands.flight_recorder import record_collectives
from toolkit.commands.messages import accepted_arguments, user_error_behind
from toolkit.commands.no_profiler import NoProfiler
from toolkit.commands.parser import ToolkitParser, expand_arguments, explicit_keys, run_name, take_option
from toolkit.commands.parts import CheckpointOptions, Parts, Run, WandbOptions
from toolkit.commands.scaling import GlobalBatch, ScalingOptions, batch_norm_warning, scaling_line
from toolkit.errors import UserError
from toolkit.nn.pretrained import without_pretrained
from toolkit.task import Task

# Checkpoints and run folders instead of configs -----------------------------------------------------------------------

HELP = {
    "fit": "Train from a config.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Predict files, folders or the test split with a checkpoint.",
    "play": "Play greedy episodes with a checkpoint.",
}


NOISE = (
    *("GPU available", "TPU available", "HPU available", "Seed set", "\U0001f4a1 Tip", "Loading `train_dataloader`"),
    *("Restor", "Loaded model weights", "`weights_only` was not set", "`Trainer.fit` stopped: `max_epochs="),
)
"""How Lightning's messages begin that repeat what is asked for or printed elsewhere."""
STEP_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


class ToolkitCLI(LightningCLI):
    """LightningCLI over `Task` and the DataModules, for one verb.

    Args:
        verb: What is to be done.
        args: The command line after the verb.
        parts: What lies above toolkit.
        callbacks: Added to those of the config.
        run_folder: The run that goes on; a new one if None.
    """

    def __init__(
        self,
        verb: str,
        args: Sequence[str],
        parts: Parts,
        callbacks: Sequence[Callback] = (),
        run_folder: Path | None = None,
    ) -> None:
        quiet()
        packages, args = take_option(args, "allow")
        allow(packages)
        enforce()
        self.batch_line: str | None = None
        """How large a step is and what that means for the learning rate; None where it is not known."""
        self.verb, self.parts, self.callbacks, self.run_folder = verb, parts, callbacks, run_folder
        self.args = list(args)
        super().__init__(
            Task,
            parts.data_class,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "log_every_n_steps": 20},
            parser_class=ToolkitParser,
            parser_kwargs={"prog": f"cli.py {verb}", "description": HELP[verb], "exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=expand_arguments(self.args),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the toolkit's own options and the links from data to model."""
        parser.add_argument("--name", type=str | None, default=None, help="Name of the run's folder; the config's.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="Checkpoint or run folder to start from."
        )
        parser.add_argument(
            "--into", type=str | None, default=None, help="Run folder to train in; one that has begun goes on."
        )
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=False,
            help="Test the best checkpoint after a fit: for final recipes.",
        )
        parser.add_argument(
            "--threads", type=int | None, default=None, help="Threads of torch on the CPU; few for small networks."
        )
        parser.add_argument("--wandb", type=WandbOptions, default=WandbOptions())
        parser.add_argument("--checkpoint", type=CheckpointOptions, default=CheckpointOptions())
        parser.add_argument("--scaling", type=ScalingOptions, default=ScalingOptions())
        explicit = explicit_keys(self.args)
        for fact in self.parts.facts:
            for owner in ("model", "model.net"):
                if f"{owner}.{fact}" not in explicit:  # a link would silently replace what the user wrote
                    target = f"{owner.replace('.', '.init_args.')}.init_args.{fact}"
                    parser.link_arguments(f"data.{fact}", target, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; `main(args)` is called in process too, where ``sys.argv`` is somebody else's."""
        assert isinstance(parser, ToolkitParser)
        parser.words = self.args
        self.config = parser.parse_args(args)

    def _set_seed(self) -> None:
        seed = self.config.seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"seed_everything: need a number from 0 to {2**32 - 1}, got {seed}.")
        super()._set_seed()

    def _add_instantiators(self) -> None:
        self.parser.add_instantiator(_TaskInstantiator(cli=self, key="model"), Task, subclasses=True)

    def instantiate_classes(self) -> None:
        """Seed the DataModule like everything else; weights that a checkpoint replaces are not downloaded."""
        if self.config.threads is not None:
            torch.set_num_threads(_positive("threads", self.config.threads))
        with without_pretrained() if self.verb != "fit" else contextlib.nullcontext():
            try:
                super().instantiate_classes()
            except Exception as error:
                if cause := user_error_behind(error):
                    raise cause from None
                raise

    # The run ----------------------------------------------------------------------------------------------------------

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer with the default loggers and callbacks, where the config does not bring its own."""
        self.datamodule.seed = int(self.config.seed_everything)
        for owner in (self.model, self.datamodule):
            owner._log_hyperparams = False  # loggers get the whole config, with secrets masked
        config: dict[str, Any] = {**self.config_init.trainer, **kwargs}
        _positive("trainer.accumulate_grad_batches", config["accumulate_grad_batches"])
        if few := config["overfit_batches"]:
            raise UserError(
                f"trainer.overfit_batches: got {few}, which needs a loader without an order of its own; write "
                f"--trainer.limit_train_batches {few} and more --trainer.max_epochs. Each epoch then has {few} other "
                "batches; to see whether a model fits a few samples, train on a data set of only those."
            )
        own = config["callbacks"] or []
        config["callbacks"] = [*(own if isinstance(own, list) else [own]), *self.callbacks]
        if self.verb == "fit" and not config["fast_dev_run"]:
            self._prepare_run(config)
        elif self.verb == "fit":
            config["logger"] = DummyLogger()  # Lightning's own would create files
        else:
            config["logger"] = False
            _add_missing(config, self.parts.evaluation_callbacks(self.model))
        plugins = config["plugins"] or []
        config["plugins"] = list(plugins if isinstance(plugins, list) else [plugins])
        if not any(isinstance(plugin, CheckpointIO) for plugin in config["plugins"]):
            asynchronous = self.config_init.checkpoint.asynchronous
            config["plugins"].append(AsynchronousCheckpointIO() if asynchronous else DurableCheckpointIO())
        if SLURMEnvironment.detect() and not any(
            isinstance(plugin, ClusterEnvironment) for plugin in config["plugins"]
        ):
            # Lightning's own requeueing saves within a step and trains on; callbacks/preemption.py takes its place.
            config["plugins"].append(SLURMEnvironment(auto_requeue=False))
        config["profiler"] = config["profiler"] or NoProfiler()
        try:
            trainer = Trainer(**config)
        except ValueError as error:  # such as a precision that the strategy does not know
            raise UserError(f"trainer: {error}") from error
        _skip_unused_hooks(trainer.callbacks)  # type: ignore[attr-defined]
        self._scale(trainer)
        if trainer.world_size > 1:
            record_collectives(Path(self.config.runs))
        return trainer

    def _scale(self, trainer: Trainer) -> None:
        """Set the learning rate's factor, and say how large a step is."""
        arguments = self.config.data.get("init_args", {})
        max_tokens = arguments.get("max_tokens")
        batch_size = max_tokens or arguments.get("batch_size")
        if self.verb != "fit" or batch_size is None:  # such as the data of reinforcement learning
            return
        options: ScalingOptions = self.config_init.scaling
        batch = GlobalBatch(batch_size, trainer.world_size, trainer.accumulate_grad_batches, bool(max_tokens))
        self.model.learning_rate_factor = options.factor(batch.size)
        self.batch_line = scaling_line(options, batch)
        if trainer.world_size > 1 and not self.config.trainer.sync_batchnorm:
            warning = batch_norm_warning(self.model, batch_size // trainer.world_size)
            if warning is not None:
                rank_zero_warn(warning)

    def stated_config(self) -> dict[str, Any]:
        """The resolved config as plain data, without what follows from the data."""
        dumped = self.parser.dump(self.config, skip_link_targets=True, skip_none=False, format="yaml")
        config: dict[str, Any] = yaml.safe_load(dumped)
        return config

    def _prepare_run(self, config: dict[str, Any]) -> None:
        own = self.run_folder.parent.name if self.run_folder else None
        name = own or run_name(self.args) or type(self.model).__name__
        on_rank_zero = is_rank_zero()
        # Other ranks learn the folder from Lightning's broadcast of trainer.log_dir and write nothing themselves.
        if self.run_folder is None:
            new = self.parts.new_run_folder
            self.run_folder = new(self.config.runs, name) if on_rank_zero else Path(self.config.runs)
        run = Run(
            self.run_folder,
            name,
            self.stated_config(),
            [sys.executable, "cli.py", self.verb, *self.args],
            self.config_init.wandb,
            self.config_init.checkpoint,
            self.model,
            self.datamodule,
            validates=config["limit_val_batches"] != 0,
            saves=config["enable_checkpointing"] is not False,
        )
        if config["logger"] in (None, True):
            config["logger"] = self.parts.loggers(run)
        config["default_root_dir"] = config["default_root_dir"] or str(self.run_folder)
        self.summary = self.parts.summary(self.run_folder)
        _add_missing(config, [*self.parts.fit_callbacks(run), self.summary])


class _TaskInstantiator(_InstantiatorFn):
    """Lightning's, which notes a task's arguments for the checkpoint, without links that found no taker."""

    def __call__(self, class_type: type[Any], *args: Any, applied_instantiation_links: dict, **kwargs: Any) -> Any:
        self.cli._dump_config()
        model = self.cli.config_dump["model"]
        links = {key: v for key, v in applied_instantiation_links.items() if _takes(model, key)}
        return super().__call__(class_type, *args, applied_instantiation_links=links, **kwargs)


def _takes(model: dict[str, Any], target: str) -> bool:
    """Whether a link's target, such as ``model.init_args.net.init_args.num_classes``, is an argument of its class.

    If so, there is a place for it afterwards, which a class without arguments of its own lacks.
    """
    *parents, name = target.removeprefix("model.").split(".")
    node: Any = model
    for key in parents[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in accepted_arguments(node.get("class_path", "")):
        return False
    node.setdefault(parents[-1], {})
    return True


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise UserError(f"{name}: need a positive number, got {number}.")
    return number


def quiet() -> None:
    """Silence what Lightning says about things that are meant, or that nobody who reads it can change."""
    # LightningCLI calls what jsonargparse 5 will remove; the dependency is bounded for it.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*LeafSpec.*",
        ".*`srun` command is available.*",  # on a machine with Slurm many a run is none of its jobs
        ".*all_gather is deprecated.*",  # Lightning's own, with torch 2.15
        ".*in eval mode at the start of training.*",  # a frozen backbone is
        ".*callbacks used to create the checkpoint need to be provided.*",
    ):
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_is_news)


def is_rank_zero() -> bool:
    """Whether this process writes and prints; known before there is a Trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def _add_missing(config: dict[str, Any], defaults: Sequence[Callback]) -> None:
    """Put the defaults whose kind the user has not configured, or switched off, before the user's."""
    callbacks = config["callbacks"]
    missing = [new for new in defaults if not any(isinstance(own, _kind(new)) for own in callbacks)]
    if config["enable_progress_bar"] is False:
        missing = [new for new in missing if not isinstance(new, ProgressBar)]
    callbacks[:0] = missing


def _skip_unused_hooks(callbacks: Sequence[Callback]) -> None:
    """Hide the hooks of a step that a callback lacks: Lightning takes 1.5 us to call each that does nothing."""
    for callback in callbacks:
        for name in STEP_HOOKS:
            if getattr(type(callback), name) is getattr(Callback, name):
                setattr(callback, name, None)  # it calls what is callable


def _kind(callback: Callback) -> type[Callback]:
    """Lightning takes one progress bar only, of whatever kind."""
    return ProgressBar if isinstance(callback, ProgressBar) else type(callback)


@contextlib.contextmanager
def config_file(config: dict[str, Any]) -> Iterator[str]:
    """A temporary file with a config, for the parser to read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        yield str(file)
