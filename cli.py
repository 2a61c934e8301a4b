"""The command line: `python cli.py VERB ...`. Light to import: torch is loaded by the verbs that need it."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.commands.parts import Parts

HELP = """usage: python cli.py VERB [options]

verbs:
  fit       train from a config             python cli.py fit --config configs/vision/classification_digits.yaml
  validate  evaluate on the validation set  python cli.py validate --ckpt_path RUN_FOLDER_OR_CHECKPOINT
  test      evaluate on the test set        python cli.py test --ckpt_path RUN_FOLDER_OR_CHECKPOINT
  resume    go on with an interrupted run   python cli.py resume RUN_FOLDER
  predict   write predictions to a CSV      python cli.py predict --ckpt_path ... --input IMAGE_OR_FOLDER ...
  sample    draw with a generative model      python cli.py sample RUN_FOLDER_OR_CHECKPOINT --class 7
  verify-resume  is a killed and resumed run the same?  python cli.py verify-resume --config CONFIG
  seeds     one config over n seeds         python cli.py seeds --config CONFIG --n 5
  consolidate  a sharded checkpoint as one file  python cli.py consolidate RUN_FOLDER_OR_CHECKPOINT
  submit    fit as a Slurm job              python cli.py submit --config CONFIG --nodes 2 --gpus 8 --time 12:00:00
  doctor    is this machine, are these ranks fit?  python cli.py doctor --ranks 2
  list      what there is to choose from    python cli.py list

Options of a verb: python cli.py VERB --help. Any value of a config can be set behind it:
  --trainer.max_epochs 3 --data.batch_size 128 --model.optimizer AdamW --model.optimizer.lr 1e-3
A second --config is merged over the first, such as one of configs/trainer/. Without --ckpt_path, the verbs that
evaluate take the best checkpoint of the newest run of --config.
"""
EVALUATED = "[--ckpt_path] RUN_FOLDER_OR_CHECKPOINT | --config CONFIG [--runs runs]"
USAGE = {
    "resume": "RUN_FOLDER [options of fit]\n\nGoes on exactly where the newest whole checkpoint was written, in "
    "the same folder. Options given here win over the stored ones.",
    "validate": f"{EVALUATED} [options of fit]\n\nNeeds no training config: the checkpoint holds it.",
    "test": f"{EVALUATED} [options of fit]\n\nNeeds no training config: the checkpoint holds it.",
    "predict": f"{EVALUATED} [--input FILE_OR_FOLDER ...] [--output CSV] [--top_k 5]\n\nWith --input, further "
    "options are --batch_size 64, --num_workers 0, --trainer.accelerator and --trainer.precision.\nWithout, the "
    "test split is predicted, and the options of fit apply.",
    "sample": f"{EVALUATED} [--count 100] [--seed 0] [--class NAME_OR_NUMBER ...] [--output FOLDER]\n\n"
    "Writes a grid and one PNG an image; of a conditional model the classes in turn, or those asked for.",
    "seeds": "--config CONFIG [--n 3] [--first 0] [--jobs 1] [options of fit]\n\nFits the config once a seed.",
    "verify-resume": "--config CONFIG [--steps 40] [--kill_after K] [options of fit]\n\nRuns the config whole, and "
    "killed and resumed, and compares samples, losses and weights of every step. Exit code 1 if they differ.",
    "consolidate": "RUN_FOLDER_OR_CHECKPOINT [--output FILE]\n\nWrites a checkpoint that many ranks wrote together as "
    "a single file.",
    "submit": "--config CONFIG --time 12:00:00 [--nodes 1] [--gpus 1] [--cpus 4] [--seeds N] [--max_restarts 0]\n"
    "    [--warn_seconds 120] [--sbatch OPTION=VALUE ...] [--name NAME] [--dry_run] [options of fit]\n\n"
    "Writes the sbatch file into a new run folder and submits it; --dry_run prints it. --gpus is per node (0: one CPU\n"
    "rank a node), --cpus per rank. Told to stop --warn_seconds before its limit, the job is requeued and goes on\n"
    "where it was. --seeds N makes an array job; --max_restarts: how often a failed job starts again; --sbatch adds\n"
    "a line, such as --sbatch partition=long.",
    "doctor": "[--ranks N] [--runs runs]\n\nDevices, versions, disk, an all-reduce between ranks, and what to mend. "
    "Under srun or torchrun it asks\nthe ranks that are there; --ranks N starts some here. Exit code 1 if there is "
    "something to mend.",
    "list": "\n\nFamilies, tasks, DataModules, networks, callbacks and configs.",
}
"""Of the verbs but fit, whose options the parser knows."""
TRAINER_VERBS = ("fit", "resume", "validate", "test", "predict")
VERBS = (*TRAINER_VERBS, "sample", "seeds", "verify-resume", "submit", "doctor", "consolidate", "list")


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
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(HELP)
        return None
    if verb not in VERBS:
        from toolkit.commands.messages import did_you_mean

        raise UserError(f"unknown verb {verb!r}; choose from {', '.join(VERBS)}.{did_you_mean(verb, VERBS)}")
    if verb in USAGE and {"-h", "--help"} & set(rest):
        print(f"usage: python cli.py {verb} {USAGE[verb]}")
        return None
    if verb == "list":
        from toolkit.commands.listing import listing

        print(listing())
        return None
    if verb == "sample":
        from toolkit.commands.sample import sample

        return sample(rest, _parts())
    if verb == "seeds":
        from toolkit.commands.seeds import seeds

        return seeds(rest)
    if verb == "verify-resume":
        from toolkit.commands.verify_resume import verify_resume

        if not verify_resume(rest):
            raise SystemExit(1)
        return True
    if verb == "consolidate":
        from toolkit.commands.consolidate import consolidate

        return consolidate(rest)
    if verb == "doctor":
        from toolkit.commands.doctor import doctor

        if not doctor(rest):
            raise SystemExit(1)
        return True
    if verb == "submit":
        from toolkit.commands.submit import submit

        submit(rest, _parts())
        return None
    return _run_trainer(verb, rest)


def _run_trainer(verb: str, rest: list[str]) -> Any:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from toolkit.commands.evaluate import evaluate, predict
    from toolkit.commands.fit import fit, resume

    try:
        if verb == "fit":
            return fit(rest, _parts())
        if verb == "resume":
            return resume(rest, _parts())
        if verb == "predict":
            return predict(rest, _parts())
        return evaluate(verb, rest, _parts())
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error


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
    from datamodules.base import BaseDataModule
    from datamodules.facts import FACTS, input_data
    from toolkit.commands.parts import Parts

    return Parts(
        data_class=BaseDataModule,
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
