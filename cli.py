"""The command line: `python cli.py VERB ...`. Light to import: torch is loaded by the verbs that need it."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.commands.parts import Parts

EVALUATED = "[--ckpt_path] RUN_FOLDER_OR_CHECKPOINT | --config CONFIG [--name NAME] [--runs runs]"


class Verb(NamedTuple):
    """One verb: where its function is, and what is said of it."""

    function: str
    """`module:function`, imported when it is asked for; False from it is exit code 1."""
    purpose: str
    example: str
    usage: str
    """Empty for `fit`, whose options the parser knows."""
    light: bool = False
    """Called with the words alone; the others also get what lies above toolkit, which takes seconds to import."""


VERBS = {
    "fit": Verb(
        "toolkit.commands.fit:fit",
        "train from a config",
        "--config configs/vision/classification_digits.yaml",
        "",
    ),
    "validate": Verb(
        "toolkit.commands.evaluate:validate",
        "evaluate on the validation set",
        "--ckpt_path RUN_FOLDER_OR_CHECKPOINT",
        f"{EVALUATED} [options of fit]\n\nNeeds no training config: the checkpoint holds it.",
    ),
    "test": Verb(
        "toolkit.commands.evaluate:test",
        "evaluate on the test set",
        "--ckpt_path RUN_FOLDER_OR_CHECKPOINT",
        f"{EVALUATED} [options of fit]\n\nNeeds no training config: the checkpoint holds it.",
    ),
    "resume": Verb(
        "toolkit.commands.fit:resume",
        "go on with an interrupted run",
        "RUN_FOLDER",
        "RUN_FOLDER [options of fit]\n\nGoes on exactly where the newest whole checkpoint was written, in the same "
        "folder. Options given here win over the stored ones.",
    ),
    "predict": Verb(
        "toolkit.commands.evaluate:predict",
        "write predictions to a CSV",
        "--ckpt_path ... --input FILE_OR_FOLDER ...",
        f"{EVALUATED} [--input FILE_OR_FOLDER ...] [--output CSV] [--top_k 5]\n\nWith --input, further options are "
        "--batch_size 64, --num_workers 0, --trainer.accelerator and --trainer.precision.\nWithout, the test split is "
        "predicted, and the options of fit apply.",
    ),
    "sample": Verb(
        "toolkit.commands.sample:sample",
        "draw with a generative model",
        "RUN_FOLDER_OR_CHECKPOINT --class 7",
        f"{EVALUATED} [--seed 0] [--count N]\n"
        "    images: [--class NAME_OR_NUMBER ...] [--output FOLDER]\n"
        '    text:   [--prompt "..."] [--tokens 200] [--temperature 1.0] [--top_k K] [--top_p P]\n\n'
        "Images: a grid and one PNG each; of a conditional model the classes in turn, or those asked for. Text is\n"
        "written to the terminal while it is drawn, each up to the end of its document.",
    ),
    "play": Verb(
        "toolkit.commands.play:play",
        "watch an agent",
        "RUN_FOLDER_OR_CHECKPOINT --episodes 10",
        f"{EVALUATED} [--episodes 10] [--seed 0] [--video FILE.gif|FILE.mp4|none] [options of fit]\n\n"
        "Plays greedy episodes, each with the seed behind the one before; prints their returns as a table, and films\n"
        "the first one (into the run folder, as a GIF, unless --video says otherwise).",
    ),
    "verify-resume": Verb(
        "toolkit.commands.verify_resume:verify_resume",
        "is a killed and resumed run the same?",
        "--config CONFIG",
        "--config CONFIG [--steps 40] [--kill_after K] [options of fit]\n\nRuns the config whole, and killed and "
        "resumed, and compares samples, losses and weights of every step. Exit code 1 if they differ.",
        light=True,
    ),
    "seeds": Verb(
        "toolkit.commands.seeds:seeds",
        "one config over n seeds",
        "--config CONFIG --n 5",
        "--config CONFIG [--n 3] [--first 0] [--jobs 1] [options of fit]\n\nFits the config once a seed.",
        light=True,
    ),
    "consolidate": Verb(
        "toolkit.commands.consolidate:consolidate",
        "a sharded checkpoint as one file",
        "RUN_FOLDER_OR_CHECKPOINT",
        "RUN_FOLDER_OR_CHECKPOINT [--output FILE]\n\nWrites a checkpoint that many ranks wrote together as a single "
        "file.",
        light=True,
    ),
    "merge": Verb(
        "toolkit.commands.merge:merge",
        "add adapters to the weights",
        "RUN_FOLDER_OR_CHECKPOINT",
        "RUN_FOLDER_OR_CHECKPOINT [--output FILE]\n\nWrites a checkpoint of the plain network, which computes the same "
        "without adapters and without peft\n(into the run folder as merged.ckpt, unless --output names a file).",
        light=True,
    ),
    "submit": Verb(
        "toolkit.commands.submit:submit",
        "fit as a Slurm job",
        "--config CONFIG --nodes 2 --gpus 8 --time 12:00:00",
        "--config CONFIG --time 12:00:00 [--nodes 1] [--gpus 1] [--cpus 4] [--seeds N] [--max_restarts 0]\n"
        "    [--warn_seconds 120] [--sbatch OPTION=VALUE ...] [--name NAME] [--dry_run] [options of fit]\n\n"
        "Writes the sbatch file into a new run folder and submits it; --dry_run prints it. --gpus is per node (0: one\n"
        "CPU rank a node), --cpus per rank. Told to stop --warn_seconds before its limit, the job is requeued and\n"
        "goes on where it was. --seeds N makes an array job; --max_restarts: how often a failed job starts again;\n"
        "--sbatch adds a line, such as --sbatch partition=long.",
    ),
    "doctor": Verb(
        "toolkit.commands.doctor:doctor",
        "is this machine, are these ranks fit?",
        "--ranks 2",
        "[--ranks N] [--runs runs]\n\nDevices, versions, disk, an all-reduce between ranks, and what to mend. Under "
        "srun or torchrun it asks\nthe ranks that are there; --ranks N starts some here. Exit code 1 if there is "
        "something to mend.",
        light=True,
    ),
    "list": Verb(
        "toolkit.commands.listing:show",
        "what there is to choose from",
        "",
        "\n\nFamilies, tasks, DataModules, networks, callbacks and configs.",
        light=True,
    ),
}
HELP = """usage: python cli.py VERB [options]

verbs:
{verbs}

Options of a verb: python cli.py VERB --help. Any value of a config can be set behind it:
  --trainer.max_epochs 3 --data.batch_size 128 --model.optimizer AdamW --model.optimizer.lr 1e-3
A second --config is merged over the first, such as one of configs/trainer/. Without --ckpt_path, the verbs that
evaluate take the best checkpoint of the newest run of --config.
"""


def main(args: Sequence[str] | None = None) -> Any:
    """Run one command line.

    Args:
        args: The words after ``cli.py``; those of the process if None.

    Returns:
        What the verb made: for `fit`, `validate` and `test` the CLI object with ``trainer``, ``model``, ``datamodule``.

    Raises:
        SystemExit: 2 with one message on standard error if the input is wrong. ``FULGURITE_DEBUG=1`` shows tracebacks.
    """
    words = list(sys.argv[1:] if args is None else args)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own package is named by its import path from where they work
    try:
        return _run(words)
    except UserError as error:
        if os.environ.get("FULGURITE_DEBUG"):
            raise
        print(f"error{_on_rank()}: {_message(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception:
        if where := _on_rank():
            print(f"failed{where}, with:", file=sys.stderr, flush=True)
        raise


def _run(words: list[str]) -> Any:
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in ("-h", "--help", "help"):
        lines = (
            f"  {name:<13}  {verb.purpose:<37}  python cli.py {name} {verb.example}" for name, verb in VERBS.items()
        )
        print(HELP.format(verbs="\n".join(line.rstrip() for line in lines)))
        return None
    if name not in VERBS:
        from toolkit.commands.messages import did_you_mean

        raise UserError(f"unknown verb {name!r}; choose from {', '.join(VERBS)}.{did_you_mean(name, VERBS)}")
    verb = VERBS[name]
    if verb.usage and {"-h", "--help"} & set(rest):
        print(f"usage: python cli.py {name} {verb.usage}")
        return None
    module, _, function = verb.function.partition(":")
    run = getattr(importlib.import_module(module), function)
    result = run(rest) if verb.light else _with_parts(run, rest)
    if result is False:
        raise SystemExit(1)
    return result


def _with_parts(run: Callable[[list[str], "Parts"], Any], words: list[str]) -> Any:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from toolkit.commands.messages import run_error
    from toolkit.commands.process_group import close_at_exit

    try:
        result = run(words, _parts())
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except (ValueError, RuntimeError) as error:
        if mistake := run_error(error):
            raise mistake from error
        raise
    close_at_exit()
    return result


def _on_rank() -> str:
    """Which of several processes this is, as torchrun, Slurm or Lightning's launcher say."""
    for rank, ranks in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), ("LOCAL_RANK", "WORLD_SIZE")):
        if rank in os.environ and os.environ.get(ranks, "1") != "1":
            return f" on rank {os.environ[rank]}"
    return ""


def _message(error: UserError) -> str:
    """The message alone, also where a DataLoader worker wrapped it into its traceback."""
    text = str(error)
    return text.rpartition("UserError: ")[2].strip() if text.startswith("Caught UserError") else text


def _parts() -> "Parts":
    """Hand the verbs what lies above toolkit: DataModules, callbacks, loggers, run folders."""
    from callbacks import defaults
    from datamodules.facts import FACTS, input_data
    from datamodules.source import DataSource
    from toolkit.commands.parts import Parts

    return Parts(
        data_class=DataSource,
        facts=FACTS,
        new_run_folder=defaults.new_run_folder,
        newest_run=defaults.newest_run,
        loggers=defaults.loggers,
        close_loggers=defaults.close_loggers,
        fit_callbacks=defaults.fit_callbacks,
        evaluation_callbacks=defaults.evaluation_callbacks,
        summary=defaults.RunSummary,
        prediction_writer=defaults.PredictionWriter,
        input_data=input_data,
    )


if __name__ == "__main__":
    main()
