"""The verbs `validate`, `test` and `predict`: from a checkpoint or run folder, without its config."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from toolkit.checkpoint import find_checkpoint, load, read_checkpoint
from toolkit.commands.parser import (
    ToolkitParser,
    run_name,
    setting_of_configs,
    stated,
    take_configs,
    take_option,
)
from toolkit.commands.parts import Parts
from toolkit.commands.toolkit_cli import ToolkitCLI, config_file, is_rank_zero, quiet
from toolkit.errors import UserError
from toolkit.task import Task

HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "plugins", "sync_batchnorm", "logger", "fast_dev_run")
"""Trainer settings of the training run that say nothing about the machine that evaluates."""


def validate(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Evaluate a checkpoint on the validation set; print the metrics beside the naive baseline."""
    return _evaluate("validate", args, parts)


def test(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Evaluate a checkpoint on the test set; print the metrics beside the naive baseline."""
    return _evaluate("test", args, parts)


def _evaluate(verb: str, args: Sequence[str], parts: Parts) -> ToolkitCLI:
    with stored_run(verb, args, parts) as (checkpoint, arguments):
        cli = ToolkitCLI(verb, arguments, parts)
    run = getattr(cli.trainer, verb)
    found = run(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if not found:
        part = "val" if verb == "validate" else "test"
        raise UserError(
            f"{verb}: trainer.limit_{part}_batches leaves nothing to evaluate; write "
            f"--trainer.limit_{part}_batches 1.0."
        )
    metrics = found[0]
    summary = parts.summary(checkpoint.parent)
    summary.add_test(metrics, cli.model.baseline(cli.datamodule, "val" if verb == "validate" else "test"))
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
    with stored_run("predict", rest, parts) as (checkpoint, arguments):
        cli = ToolkitCLI("predict", arguments, parts, [writer])
    cli.trainer.predict(
        cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, return_predictions=False
    )
    return cli


def _predict_inputs(inputs: Sequence[str], args: Sequence[str], writer: Callback, parts: Parts) -> Task:
    """Predict files with nothing but a checkpoint."""
    quiet()
    parser = ToolkitParser(prog="cli.py predict --input ...", exit_on_error=False)
    parser.add_argument("--ckpt_path", type=str | None, default=None)
    parser.add_argument("--batch_size", type=int | None, default=None)
    parser.add_argument("--num_workers", type=int, default=0)
    paths, rest = take_checkpoint(args, parts)
    given = setting_of_configs("trainer", rest)
    parser.add_argument("--trainer.accelerator", type=str, default=given.get("accelerator") or "auto")
    parser.add_argument("--trainer.precision", type=str | int | None, default=given.get("precision"))
    rest = take_configs(take_option(rest, "runs")[1])[1]
    parser.words = rest
    options = parser.parse_args(rest)
    task = load(paths)
    if task.input_kind is None:
        raise UserError(f"--input: {type(task).__name__} predicts a DataModule's samples only; leave --input out.")
    data = parts.input_data(task, inputs, options.batch_size or task.predict_batch_size, options.num_workers)
    folder = _evaluation_folder(paths, "predict", parts)
    callbacks = [writer, *parts.evaluation_callbacks(task)]
    hardware = {"accelerator": options.trainer.accelerator, "precision": options.trainer.precision, "devices": 1}
    try:
        trainer = Trainer(**hardware, logger=False, default_root_dir=folder, callbacks=callbacks)
    except ValueError as error:  # such as a precision that there is not
        raise UserError(f"trainer: {error}") from error
    trainer.predict(task, datamodule=data, return_predictions=False)
    return task


@contextlib.contextmanager
def stored_run(verb: str, args: Sequence[str], parts: Parts) -> Iterator[tuple[Path, list[str]]]:
    """The checkpoint that a command line means, and the command line with the stored config before its own options."""
    checkpoint, rest = take_checkpoint(args, parts)
    stored = read_checkpoint(checkpoint, sharded=False).get("config")
    if stored is None:
        raise UserError(
            f"checkpoint {str(checkpoint)!r}: it was written by a task built in Python and holds no config; use "
            "YourTask.load_from_checkpoint(path, net=net) and a Trainer in Python."
        )
    trainer = {key: value for key, value in stored.get("trainer", {}).items() if key not in HARDWARE}
    trainer["default_root_dir"] = str(_evaluation_folder(checkpoint, verb, parts))
    stored = {**stored, "trainer": trainer, "ckpt_path": None}
    with config_file(stored) as file:
        yield checkpoint, ["--config", file, *rest]


def take_checkpoint(args: Sequence[str], parts: Parts) -> tuple[Path, list[str]]:
    """Find the checkpoint: given as ``--ckpt_path`` or first word, or the best of the newest run of this name."""
    given, rest = take_option(args, "ckpt_path")
    if not given and rest and not rest[0].startswith("-"):
        given, rest = [rest[0]], rest[1:]
    if given:
        return find_checkpoint(given[0]), rest
    runs, name = stated(rest, "runs") or "runs", run_name(rest)
    if name is None:
        raise UserError("checkpoint: name one with --ckpt_path RUN_FOLDER_OR_FILE, or a --config that has been run.")
    run = parts.newest_run(runs, name)
    if run is None:
        raise UserError(f"checkpoint: no run of {name!r} with a checkpoint below {runs!r}; fit it first.")
    configs, others = take_configs(take_option(rest, "name")[1])
    return find_checkpoint(run), [*(word for config in configs[1:] for word in ("--config", config)), *others]


def _evaluation_folder(checkpoint: Path, verb: str, parts: Parts) -> Path:
    """A new folder for what an evaluation writes: in the run folder if the checkpoint lies in one."""
    in_run = checkpoint.parent.name == "checkpoints"
    root = checkpoint.parent.parent if in_run else Path("runs") / checkpoint.stem
    return parts.new_run_folder(str(root), verb) if is_rank_zero() else root


def _integer(name: str, values: Sequence[str], default: int) -> int:
    if not values:
        return default
    if not values[0].isdigit() or int(values[0]) < 1:
        raise UserError(f"{name}: expected a positive integer, got {values[0]!r}.")
    return int(values[0])
