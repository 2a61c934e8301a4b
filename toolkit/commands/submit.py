"""The verb `submit`: a fit as a Slurm job that stops before its limit, is requeued, and goes on by itself."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.checkpoint import find_checkpoint
from toolkit.commands.index import ROOT
from toolkit.commands.parser import run_name, take_option
from toolkit.commands.parts import Parts
from toolkit.commands.toolkit_cli import ToolkitCLI
from toolkit.errors import UserError

TEMPLATE = ROOT / "configs" / "cluster" / "slurm.sbatch"
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")
TIME_HELP = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


def submit(args: Sequence[str], parts: Parts) -> str:
    """Check a request, fill in the sbatch file, submit it, and print how to follow the job.

    Args:
        args: The options of `submit`; everything else goes to `fit`.
        parts: What lies above toolkit.

    Returns:
        The sbatch file's text.

    Raises:
        UserError: The request could never run, or Slurm refused it.
    """
    options, words = _options(args)
    name = options.name or run_name(words)
    if name is None:
        raise UserError("submit: name a config with --config configs/...yaml.")
    _check_start(words)
    ranks = options.nodes * max(options.gpus, 1)
    words = [*words, *_trainer_words(options)]
    config = _ParsedOnly("fit", words, parts).config
    if ranks > 1 and config.trainer.strategy in (None, "auto"):
        words.append("--trainer.strategy=ddp")
    _check(options, config, ranks)
    if options.dry_run:
        folder = Path(config.runs) / name / "DATE-TIME-ID"
        script = fill_in(options, words, folder, name)
        print(script)
        return script
    if shutil.which("sbatch") is None:
        raise UserError("submit: there is no sbatch here; run it on a login node of a Slurm cluster, or see --dry_run.")
    try:
        folder = parts.new_run_folder(config.runs, name).resolve()
    except OSError as error:
        raise UserError(f"--runs: cannot make a folder below {config.runs!r}: {error.strerror}.") from error
    script = fill_in(options, words, folder, name)
    (folder / "job.sbatch").write_text(script)
    _follow(_sbatch(folder / "job.sbatch"), folder)
    return script


def seconds(time: str) -> int:
    """A time limit as Slurm reads it.

    >>> [seconds(text) for text in ("90", "90:30", "2:00:00", "1-12", "1-12:30")]
    [5400, 5430, 7200, 129600, 131400]
    """
    found = TIME.fullmatch(time)
    if found is None:
        raise UserError(f"--time: {time!r} is no time limit; write {TIME_HELP}.")
    clock = [int(part) for part in found["clock"].split(":")]
    if found["days"] is not None:
        hours, minutes, rest = [*clock, 0, 0][:3]
        return int(found["days"]) * 86400 + hours * 3600 + minutes * 60 + rest
    hours, minutes, rest = {1: [0, *clock, 0], 2: [0, *clock], 3: clock}[len(clock)]
    return hours * 3600 + minutes * 60 + rest


def fill_in(options: argparse.Namespace, words: Sequence[str], folder: Path, name: str) -> str:
    """The sbatch file of a request: the template with its values.

    Args:
        options: What `submit` takes itself.
        words: What goes to `fit`.
        folder: The run folder.
        name: The job's name.
    """
    command = shlex.join([sys.executable, str(ROOT / "cli.py"), "fit", *words])
    more = [f"#SBATCH --gpus-per-node={options.gpus}"] if options.gpus else []
    if options.seeds:
        more.append(f"#SBATCH --array=0-{options.seeds - 1}")
        command += ' --seed_everything "$SLURM_ARRAY_TASK_ID"'
    more += [f"#SBATCH --{option.removeprefix('--')}" for option in options.sbatch]
    values = {
        "NAME": name,
        "NODES": options.nodes,
        "RANKS_PER_NODE": max(options.gpus, 1),
        "CPUS": options.cpus,
        "TIME": options.time,
        "WARN_SECONDS": options.warn_seconds,
        "LOG": folder / ("slurm-%a.log" if options.seeds else "slurm.log"),
        "MORE_DIRECTIVES": "\n".join(more),
        "WORKDIR": shlex.quote(str(Path.cwd())),
        "RUN_FOLDER": shlex.quote(str(folder)),
        "COMMAND": command,
        "MAX_RESTARTS": options.max_restarts,
    }
    text = TEMPLATE.read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


class _ParsedOnly(ToolkitCLI):
    """The command line of a fit, checked to its last option, with nothing built from it."""

    def instantiate_classes(self) -> None:
        """Leave it at the config."""


def _options(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--time", default=None)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--max_restarts", type=int, default=0)
    parser.add_argument("--warn_seconds", type=int, default=120)
    parser.add_argument("--sbatch", action="append", default=[])
    parser.add_argument("--name", default=None)
    parser.add_argument("--dry_run", action="store_true")
    try:
        options, rest = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(f"submit: {error}.") from error
    return options, rest


def _trainer_words(options: argparse.Namespace) -> list[str]:
    accelerator = "gpu" if options.gpus else "cpu"
    words = [f"--trainer.accelerator={accelerator}", f"--trainer.num_nodes={options.nodes}"]
    return [*words, f"--trainer.devices={max(options.gpus, 1)}"]


def _check_start(words: Sequence[str]) -> None:
    """Refuse another run folder than the job's own, and a checkpoint that is not there."""
    if into := take_option(words, "into")[0]:
        raise UserError(
            f"--into: submit makes the job's run folder itself, got {into[0]!r}; leave it out, or name the run with "
            "--name and its place with --runs."
        )
    start, _ = take_option(words, "ckpt_path")
    if start == ["last"]:
        raise UserError(
            "--ckpt_path last: a job trains in a run folder of its own; to go on with an earlier job, write sbatch "
            "RUN_FOLDER/job.sbatch; to start at another run's checkpoint, --ckpt_path RUN_FOLDER."
        )
    if start:
        find_checkpoint(start[0])


def _check(options: argparse.Namespace, config: Any, ranks: int) -> None:
    """Refuse what would wait in the queue only to fail."""
    for name, least in {"nodes": 1, "gpus": 0, "cpus": 1, "seeds": 0, "max_restarts": 0, "warn_seconds": 1}.items():
        if getattr(options, name) < least:
            raise UserError(f"--{name}: need at least {least}, got {getattr(options, name)}.")
    if options.time is None:
        raise UserError(f"submit: name a time limit with --time: {TIME_HELP}.")
    if seconds(options.time) <= options.warn_seconds:
        raise UserError(
            f"--time: {options.time} is not longer than the {options.warn_seconds} s before the limit at which the run "
            "is told to stop; ask for more, or lower --warn_seconds."
        )
    batch_size = config.data.init_args.get("batch_size")
    if batch_size is not None and batch_size % ranks:
        raise UserError(
            f"data.batch_size: the global batch of {batch_size} does not divide by {options.nodes} nodes x "
            f"{max(options.gpus, 1)} ranks; write a multiple of {ranks}."
        )


def _sbatch(file: Path) -> str:
    """Submit; the job's id."""
    done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True)
    if done.returncode:
        file.unlink()
        file.parent.rmdir()  # nothing will run in it
        raise UserError(f"submit: Slurm refused {str(file)!r}: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def _follow(job: str, folder: Path) -> None:
    lines = {
        "job": job,
        "script": folder / "job.sbatch",
        "run": folder,
        "queue": f"squeue --job {job}",
        "log": f"tail -F {folder}/slurm*.log",
        "cancel": f"scancel {job}",
    }
    print("\n".join(f"{key:<10}  {value}" for key, value in lines.items()), flush=True)
