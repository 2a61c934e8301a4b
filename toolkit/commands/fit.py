"""The verbs `fit` and `resume`."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from toolkit.checkpoint import find_checkpoint, has_checkpoint, read_checkpoint
from toolkit.checkpoint_io import newest_valid
from toolkit.commands.parser import run_name, stated, take_option
from toolkit.commands.parts import Parts
from toolkit.commands.toolkit_cli import ToolkitCLI, config_file, is_rank_zero
from toolkit.errors import UserError
from toolkit.generative.image_generator import ImageGenerator
from toolkit.language.text_generator import TextGenerator
from toolkit.nn.pretrained import without_pretrained
from toolkit.reinforcement.reinforcement_task import ReinforcementTask

INPUT_FILES: dict[str | None, str] = {"image": "IMAGE_OR_FOLDER", "text": "FILE.txt"}
"""What `predict --input` is followed by, for each kind of input."""
SECONDS_TO_FAIL = 5.0
"""How long one rank's failure waits for the others'."""


def fit(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Train; print the summary. ``--ckpt_path last`` resumes the newest run of the config."""
    into, args = take_option(args, "into")
    if not into and (folder := stated(args, "into")):
        raise UserError(
            f"into: a config holds {folder!r}, but a run folder belongs to one run and not to a recipe; write "
            f"--into {folder} on the command line."
        )
    given, rest = take_option(args, "ckpt_path")
    if given != ["last"]:
        return _fit_into(Path(into[0]), args, parts) if into else _begin(args, parts)
    if into:
        raise UserError(
            f"--ckpt_path last: --into {into[0]} names the run already, and goes on with it once it has begun; leave "
            "one of the two out."
        )
    name = run_name(rest)
    run = parts.newest_run(stated(rest, "runs") or "runs", name) if name else None
    if run is None:
        raise UserError(f"--ckpt_path last: there is no run of {name!r} with a checkpoint; leave it out.")
    return _fit_into(run, rest, parts)


def _begin(args: Sequence[str], parts: Parts, folder: Path | None = None) -> ToolkitCLI:
    """Train from the start, or from where ``--ckpt_path`` says, in a new run folder or in one named beforehand."""
    given, _ = take_option(args, "ckpt_path")
    if given:
        find_checkpoint(given[0])  # before there is a run folder
    if folder is not None and is_rank_zero():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--into: cannot make the run folder {str(folder)!r}: {error.strerror}.") from error
    with without_pretrained() if given else contextlib.nullcontext():  # the checkpoint has the weights
        cli = ToolkitCLI("fit", args, parts, run_folder=folder)
    return _fit(cli, find_checkpoint(cli.config.ckpt_path) if cli.config.ckpt_path else None)


def _fit_into(folder: Path, args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Train in a run folder that is named beforehand; one that has begun goes on. One command for every start of a job.

    All ranks decide alike: the first of them writes into the folder only after all have met.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--into: {str(folder)!r} is a file; name the run folder, new or begun.")
    checkpoint = newest_valid(folder / "checkpoints")
    if checkpoint is None:
        return _begin(args, parts, folder)
    with without_pretrained():
        # not over the stored one: `callbacks+` would add twice
        cli = ToolkitCLI("fit", args, parts, run_folder=folder)
    _say_resumed(cli, read_checkpoint(checkpoint, sharded=False).get("config"), checkpoint)
    return _fit(cli, checkpoint)


def resume(args: Sequence[str], parts: Parts) -> ToolkitCLI:
    """Go on with a run exactly where its newest whole checkpoint left it, in the same run folder."""
    if not args or args[0].startswith("-"):
        raise UserError("resume: name the run folder, such as python cli.py resume runs/NAME/DATE-TIME-ID.")
    folder, rest = Path(args[0]), args[1:]
    checkpoint = newest_valid(folder / "checkpoints")
    if checkpoint is not None:
        stored = read_checkpoint(checkpoint, sharded=False).get("config")
    elif (folder / "config.yaml").is_file():  # killed before the first checkpoint
        stored = yaml.safe_load((folder / "config.yaml").read_text())
    else:
        raise UserError(f"resume: {str(folder)!r} is no run folder: it has neither checkpoints nor a config.yaml.")
    if not isinstance(stored, dict):
        raise UserError(f"resume: {str(checkpoint or folder)!r} holds no config, so it was not written by fit.")
    begun = without_pretrained() if checkpoint is not None else contextlib.nullcontext()  # it has the weights
    with config_file({**stored, "ckpt_path": None}) as file, begun:
        cli = ToolkitCLI("fit", ["--config", file, *rest], parts, run_folder=folder)
    _say_resumed(cli, stored, checkpoint)
    return _fit(cli, checkpoint)


def _say_resumed(cli: ToolkitCLI, stored: Any, checkpoint: Path | None) -> None:
    if is_rank_zero():
        print(f"{'resume':<10}  {checkpoint or 'from the start: there is no checkpoint yet'}", flush=True)
        for line in differences(stored, cli.stated_config()):
            print(f"{'changed':<10}  {line}", flush=True)


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
    if cli.run_folder is not None and is_rank_zero():
        parameters = sum(parameter.numel() for parameter in cli.model.parameters())
        print(f"{'run':<10}  {cli.run_folder}  ({type(cli.model.net).__name__}, {parameters:,} parameters)", flush=True)
        if cli.batch_line is not None:
            print(f"{'batch':<10}  {cli.batch_line}", flush=True)
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=start, weights_only=True)
        if cli.run_folder is not None:
            cli.run_folder = cli.trainer.strategy.broadcast(cli.run_folder)  # only rank 0 made one
            cli.summary.values["batch"] = cli.batch_line
            validates = cli.trainer.limit_val_batches != 0  # else there may be no such split
            cli.summary.add_best(cli.trainer, cli.model.baseline(cli.datamodule, "val") if validates else None)
            if cli.config.test_after_fit:
                _test_after_fit(cli)
        exit_code = 0
    except BaseException:
        _end_other_ranks(cli.trainer.strategy.launcher)
        raise
    finally:
        hint = cli.parts.close_loggers(cli.trainer.loggers)
        if exit_code == 0 and cli.run_folder is not None and cli.trainer.is_global_zero:
            cli.summary.write()
            print("\n".join(cli.summary.lines(hint, _next_command(cli))), flush=True)
    return cli


def _end_other_ranks(launcher: Any) -> None:
    """Let the processes that this one has started say why they fail, too; then end those that hang."""
    if isinstance(launcher, _SubprocessScriptLauncher):
        deadline = time.monotonic() + SECONDS_TO_FAIL
        for process in launcher.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        launcher.kill(signal.SIGKILL)


def _test_after_fit(cli: ToolkitCLI) -> None:
    path = find_checkpoint(cli.run_folder) if cli.run_folder and has_checkpoint(cli.run_folder) else None
    run = cli.trainer.test
    (metrics,) = run(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True, verbose=False)
    cli.summary.add_test(dict(metrics), cli.model.baseline(cli.datamodule, "test"))


def _next_command(cli: ToolkitCLI) -> str:
    if cli.run_folder is None or not has_checkpoint(cli.run_folder):
        return "python cli.py list"
    if isinstance(cli.model, TextGenerator):
        return f'python cli.py sample {cli.run_folder} --prompt ""'
    if isinstance(cli.model, ImageGenerator):
        return f"python cli.py sample {cli.run_folder}"
    if isinstance(cli.model, ReinforcementTask):
        return f"python cli.py play {cli.run_folder}"
    verb = "predict" if cli.config.test_after_fit else "test"
    file = INPUT_FILES.get(type(cli.model).input_kind) if verb == "predict" else None
    return f"python cli.py {verb} --ckpt_path {cli.run_folder}{f' --input {file}' if file else ''}"
