"""The Trainer's verbs: fit, validate, test and predict, from configs, checkpoints and run folders."""

import contextlib
import inspect
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, _InstantiatorFn
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import CheckpointIO

from toolkit.checkpoint import find_checkpoint, has_checkpoint, load, read_checkpoint
from toolkit.checkpoint_io import DurableCheckpointIO, newest_valid
from toolkit.commands.messages import accepted_arguments, user_error_behind
from toolkit.commands.parser import ToolkitParser, expand_arguments, explicit_keys, take_option
from toolkit.commands.parts import Parts, Run, WandbOptions
from toolkit.errors import UserError
from toolkit.nn.pretrained import without_pretrained
from toolkit.task import Task

HELP = {
    "fit": "Train from a config.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Predict files, folders or the test split with a checkpoint.",
}
HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "plugins", "sync_batchnorm", "logger", "fast_dev_run")
"""Trainer settings of the training run that say nothing about the machine that evaluates."""


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
        _quiet()
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
            "--test_after_fit",
            type=bool,
            default=False,
            help="Test the best checkpoint after a fit: for final recipes.",
        )
        parser.add_argument("--wandb", type=WandbOptions, default=WandbOptions())
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

    def _add_instantiators(self) -> None:
        self.parser.add_instantiator(_TaskInstantiator(cli=self, key="model"), Task, subclasses=True)

    def instantiate_classes(self) -> None:
        """Seed the DataModule like everything else; weights that a checkpoint replaces are not downloaded."""
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
        config: dict[str, Any] = {**self.config_init.trainer, **kwargs}
        own = config["callbacks"] or []
        config["callbacks"] = [*(own if isinstance(own, list) else [own]), *self.callbacks]
        if self.verb == "fit" and not config["fast_dev_run"]:
            self._prepare_run(config)
        elif self.verb == "fit":
            config["logger"] = DummyLogger()  # Lightning's own would create files
        else:
            config["logger"] = False
            _add_missing(config, self.parts.evaluation_callbacks())
        plugins = config["plugins"] or []
        config["plugins"] = list(plugins if isinstance(plugins, list) else [plugins])
        if not any(isinstance(plugin, CheckpointIO) for plugin in config["plugins"]):
            config["plugins"].append(DurableCheckpointIO())
        return Trainer(**config)

    def stated_config(self) -> dict[str, Any]:
        """The resolved config as plain data, without what follows from the data."""
        dumped = self.parser.dump(self.config, skip_link_targets=True, skip_none=False, format="yaml")
        config: dict[str, Any] = yaml.safe_load(dumped)
        return config

    def _prepare_run(self, config: dict[str, Any]) -> None:
        own = self.run_folder.parent.name if self.run_folder else None
        name = own or self.config.name or config_name(self.args) or type(self.model).__name__
        on_rank_zero = _is_rank_zero()
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
            self.model,
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


def _quiet() -> None:
    """Silence what Lightning says about things that are meant, or that nobody who reads it can change."""
    # LightningCLI calls what jsonargparse 5 will remove; the dependency is bounded for it.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*LeafSpec.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
    ):
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_is_news)


def _is_rank_zero() -> bool:
    """Whether this process writes and prints; known before there is a Trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(
        (
            *("GPU available", "TPU available", "HPU available", "Seed set", "\U0001f4a1 Tip"),
            *("Loading `train_dataloader`", "Restor", "Loaded model weights", "`weights_only` was not set"),
        )
    )


def _add_missing(config: dict[str, Any], defaults: Sequence[Callback]) -> None:
    """Put the defaults whose kind the user has not configured, or switched off, before the user's."""
    callbacks = config["callbacks"]
    missing = [new for new in defaults if not any(isinstance(own, _kind(new)) for own in callbacks)]
    if config["enable_progress_bar"] is False:
        missing = [new for new in missing if not isinstance(new, ProgressBar)]
    callbacks[:0] = missing


def _kind(callback: Callback) -> type[Callback]:
    """Lightning takes one progress bar only, of whatever kind."""
    return ProgressBar if isinstance(callback, ProgressBar) else type(callback)


def config_name(args: Sequence[str]) -> str | None:
    """The first config's file name without ending: what the run is called."""
    configs = take_option(["--config" if arg == "-c" else arg for arg in args], "config")[0]
    return Path(configs[0]).stem if configs else None


# Verbs ----------------------------------------------------------------------------------------------------------------


def fit(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Train; print the summary. ``--ckpt_path last`` resumes the newest run of the config."""
    given, rest = take_option(args, "ckpt_path")
    if given == ["last"]:
        runs = take_option(rest, "runs")[0]
        name = config_name(rest)
        run = parts.newest_run(runs[0] if runs else "runs", name) if name else None
        if run is None:
            raise UserError(f"--ckpt_path last: there is no run of {name!r} with a checkpoint; leave it out.")
        return resume([str(run), *rest], parts)
    if given:
        find_checkpoint(given[0])  # before there is a run folder
    cli = ToolkitCLI("fit", args, parts)
    return _fit(cli, find_checkpoint(cli.config.ckpt_path) if cli.config.ckpt_path else None)


def resume(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Go on with a run exactly where its newest whole checkpoint left it, in the same run folder."""
    if not args or args[0].startswith("-"):
        raise UserError("resume: name the run folder, such as python cli.py resume runs/NAME/DATE-TIME-ID.")
    folder, rest = Path(args[0]), args[1:]
    checkpoint = newest_valid(folder / "checkpoints")
    if checkpoint is None:
        raise UserError(f"resume: {str(folder)!r} has no whole checkpoint in checkpoints/; fit anew.")
    stored = read_checkpoint(checkpoint).get("config")
    if stored is None:
        raise UserError(f"resume: {str(checkpoint)!r} holds no config, so it was not written by fit.")
    with _config_file({**stored, "ckpt_path": None}) as file:
        cli = ToolkitCLI("fit", ["--config", file, *rest], parts, run_folder=folder)
    if _is_rank_zero():
        print(f"{'resume':<10}  {checkpoint}", flush=True)
        for line in differences(stored, cli.stated_config()):
            print(f"{'changed':<10}  {line}", flush=True)
    return _fit(cli, checkpoint)


def differences(stored: Any, given: Any, key: str = "") -> Iterator[str]:
    """What was stored and what is given now, a line each.

    >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}))
    ['a.c: 2 -> 3']
    """
    if isinstance(stored, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*stored, *given]):
            yield from differences(stored.get(name), given.get(name), f"{key}.{name}" if key else str(name))
    elif stored != given and key not in ("ckpt_path", "config"):
        yield f"{key}: {stored} -> {given}"


def _fit(cli: ToolkitCLI, start: Path | None) -> ToolkitCLI:
    exit_code = 1
    if cli.run_folder is not None and _is_rank_zero():
        parameters = sum(parameter.numel() for parameter in cli.model.parameters())
        print(f"{'run':<10}  {cli.run_folder}  ({type(cli.model.net).__name__}, {parameters:,} parameters)", flush=True)
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=start, weights_only=True)
        if cli.run_folder is not None:
            cli.summary.add_best(cli.trainer, cli.datamodule.baseline("val"))
            if cli.config.test_after_fit:
                _test_after_fit(cli)
        exit_code = 0
    finally:
        hint = cli.parts.close_loggers(cli.trainer.loggers)
        if exit_code == 0 and cli.run_folder is not None and cli.trainer.is_global_zero:
            cli.summary.write()
            print("\n".join(cli.summary.lines(hint, _next_command(cli))), flush=True)
    return cli


def _test_after_fit(cli: ToolkitCLI) -> None:
    path = find_checkpoint(cli.run_folder) if cli.run_folder and has_checkpoint(cli.run_folder) else None
    metrics = cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True, verbose=False)[
        0
    ]
    cli.summary.add_test(dict(metrics), cli.datamodule.baseline("test"))


def _next_command(cli: ToolkitCLI) -> str:
    if cli.run_folder is None or not has_checkpoint(cli.run_folder):
        return "python cli.py list"
    verb = "predict" if cli.config.test_after_fit else "test"
    wants_input = verb == "predict" and type(cli.model).input_kind == "image"
    return f"python cli.py {verb} --ckpt_path {cli.run_folder}{' --input IMAGE_OR_FOLDER' if wants_input else ''}"


def evaluate(verb: str, args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Validate or test a checkpoint; print the metrics beside the naive baseline."""
    with _stored_run(args, parts) as (checkpoint, arguments):
        cli = ToolkitCLI(verb, arguments, parts)
    run = getattr(cli.trainer, verb)
    metrics = run(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)[0]
    summary = parts.summary(checkpoint.parent)
    summary.add_test(metrics, cli.datamodule.baseline("val" if verb == "validate" else "test"))
    if cli.trainer.is_global_zero:
        print(f"checkpoint  {checkpoint}")
        for name, value in metrics.items():
            print(f"{'':<10}  {summary.scored(name, value)}")
    return cli


def predict(args: Sequence[str], parts: Parts) -> Any:
    """Predict files (``--input``) or the test split; write a CSV and print where."""
    inputs, rest = take_option(args, "input")
    output, rest = take_option(rest, "output")
    top_k, rest = take_option(rest, "top_k")
    writer = parts.prediction_writer(Path(output[0]) if output else None, _integer("top_k", top_k, 5))
    if inputs:
        return _predict_inputs(inputs, rest, writer, parts)
    with _stored_run(rest, parts) as (checkpoint, arguments):
        cli = ToolkitCLI("predict", arguments, parts, [writer])
    cli.trainer.predict(
        cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, return_predictions=False
    )
    return cli


def _predict_inputs(inputs: Sequence[str], args: Sequence[str], writer: Callback, parts: Parts) -> Task:
    """Predict files with nothing but a checkpoint."""
    parser = ToolkitParser(prog="cli.py predict --input ...", exit_on_error=False)
    parser.add_argument("--ckpt_path", type=str | None, default=None)
    parser.add_argument("--config", type=list[str] | None, default=None)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--trainer.accelerator", type=str, default="auto")
    parser.add_argument("--trainer.precision", type=str | int | None, default=None)
    paths, rest = _take_checkpoint(args, parts)
    parser.words = rest
    options = parser.parse_args(rest)
    task = load(paths)
    if task.input_kind is None:
        raise UserError(f"--input: {type(task).__name__} predicts a DataModule's samples only; leave --input out.")
    data = parts.input_data(task, inputs, options.batch_size, options.num_workers)
    trainer = Trainer(
        accelerator=options.trainer.accelerator,
        precision=options.trainer.precision,
        devices=1,
        logger=False,
        default_root_dir=_evaluation_folder(paths, "predict", parts),
        callbacks=[writer, *parts.evaluation_callbacks()],
    )
    trainer.predict(task, datamodule=data, return_predictions=False)
    return task


# Checkpoints and run folders instead of configs -----------------------------------------------------------------------


@contextlib.contextmanager
def _stored_run(args: Sequence[str], parts: Parts) -> Iterator[tuple[Path, list[str]]]:
    """The checkpoint that a command line means, and the command line with the stored config before its own options."""
    verb = inspect.stack()[2].function
    checkpoint, rest = _take_checkpoint(args, parts)
    stored = read_checkpoint(checkpoint).get("config")
    if stored is None:
        raise UserError(
            f"checkpoint {str(checkpoint)!r}: it was written by a task built in Python and holds no config; use "
            "YourTask.load_from_checkpoint(path, net=net) and a Trainer in Python."
        )
    trainer = {key: value for key, value in stored.get("trainer", {}).items() if key not in HARDWARE}
    trainer["default_root_dir"] = str(_evaluation_folder(checkpoint, verb, parts))
    stored = {**stored, "trainer": trainer, "ckpt_path": None}
    with _config_file(stored) as file:
        yield checkpoint, ["--config", file, *rest]


@contextlib.contextmanager
def _config_file(config: dict[str, Any]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        yield str(file)


def _take_checkpoint(args: Sequence[str], parts: Parts) -> tuple[Path, list[str]]:
    """Find the checkpoint: given as ``--ckpt_path`` or first word, or the best of the newest run of ``--config``."""
    given, rest = take_option(args, "ckpt_path")
    if not given and rest and not rest[0].startswith("-"):
        given, rest = [rest[0]], rest[1:]
    if given:
        return find_checkpoint(given[0]), rest
    runs, _ = take_option(rest, "runs")
    configs, others = take_option(["--config" if arg == "-c" else arg for arg in rest], "config")
    if not configs:
        raise UserError("checkpoint: name one with --ckpt_path RUN_FOLDER_OR_FILE, or a --config that has been run.")
    name = Path(configs[0]).stem
    run = parts.newest_run(runs[0] if runs else "runs", name)
    if run is None:
        raise UserError(
            f"checkpoint: no run of {name!r} with a checkpoint below {runs[0] if runs else 'runs'!r}; fit it first."
        )
    return find_checkpoint(run), [*(word for config in configs[1:] for word in ("--config", config)), *others]


def _evaluation_folder(checkpoint: Path, verb: str, parts: Parts) -> Path:
    """A new folder for what an evaluation writes: in the run folder if the checkpoint lies in one."""
    in_run = checkpoint.parent.name == "checkpoints"
    return parts.new_run_folder(str(checkpoint.parent.parent if in_run else Path("runs") / checkpoint.stem), verb)


def _integer(name: str, values: Sequence[str], default: int) -> int:
    if not values:
        return default
    if not values[0].isdigit() or int(values[0]) < 1:
        raise UserError(f"{name}: expected a positive integer, got {values[0]!r}.")
    return int(values[0])
