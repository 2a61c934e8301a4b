"""The verb `verify-resume`: is a killed and resumed run of a config the same as one that was left alone?"""

import argparse
import csv
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from toolkit.commands.index import ROOT
from toolkit.errors import UserError

COLUMNS = ("rank", "epoch", "batch", "loss", "weights", "samples")
COMPARED = ("state_dict.", "current_model_state.", "optimizer_states.", "lr_schedulers.", "train_sums")
"""Entries of a checkpoint."""
Step = tuple[int, int, int]
"""(epoch, batch, rank)"""


def verify_resume(args: Sequence[str]) -> bool:
    """Run a config whole, and killed and resumed; compare every step and the last checkpoint; print what was found.

    Args:
        args: ``--config CONFIG``, ``--steps N`` (training steps), ``--kill_after K``; everything else goes to `fit`.

    Returns:
        Whether they are equal, bit for bit.

    Raises:
        UserError: No config, or a run failed.
    """
    options, rest = _options(args)
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("whole", "killed")]
        for run in runs:
            run.mkdir()
        base = [*rest, f"--trainer.max_steps={options.steps}", "--wandb.enabled=false"]
        whole = _fit(base, runs[0], None)
        print(f"{'whole':<10}  {options.steps} steps", flush=True)
        killed = _fit(base, runs[1], options.kill_after)
        print(f"{'killed':<10}  after step {options.kill_after}", flush=True)
        _call(["resume", str(killed)], expected=0)
        print(f"{'resumed':<10}  to step {options.steps}", flush=True)
        found = [*differing_steps(_read(runs[0]), _read(runs[1])), *differing_tensors(whole, killed)]
    print("\n".join(found[:1] or ["equal       every sample, loss and weight of every step, and the last checkpoint"]))
    return not found


def differing_steps(whole: dict[Step, list[dict[str, str]]], killed: dict[Step, list[dict[str, str]]]) -> Iterator[str]:
    """The steps in which two ledgers differ, in their order, a line each."""
    for step in sorted(whole.keys() | killed.keys()):
        where = f"differs     epoch {step[0]}, batch {step[1]}, rank {step[2]}:"
        if step not in whole or step not in killed:
            yield f"{where} only the {'whole' if step in whole else 'resumed'} run made it"
            continue
        (expected,) = whole[step]
        for made in killed[step]:
            for column in ("samples", "loss", "weights"):
                if made[column] != expected[column]:
                    yield f"{where} {column} {made[column][:60]} instead of {expected[column][:60]}"
                    return


def differing_tensors(whole: Path, killed: Path) -> Iterator[str]:
    """The entries in which the last checkpoints of two runs differ, a line each."""
    from toolkit.checkpoint import read_checkpoint

    contents = [dict(_flat(read_checkpoint(run / "checkpoints" / "last.ckpt"))) for run in (whole, killed)]
    for name in sorted(contents[0].keys() | contents[1].keys()):
        if name.startswith(COMPARED):
            a, b = (content.get(name) for content in contents)
            if not _equal(a, b):
                yield f"differs     {name} of the last checkpoint"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        yield name, value
        return
    for key, item in items:
        yield from _flat(item, f"{name}.{key}" if name else str(key))


def _equal(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return bool(a == b)


def _options(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--kill_after", type=int, default=None)
    try:
        options, rest = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(f"verify-resume: {error}.") from error
    options.kill_after = options.kill_after or 2 * options.steps // 3
    if not 0 < options.kill_after < options.steps:
        raise UserError(f"verify-resume: need 0 < kill_after < steps, got {options.kill_after} and {options.steps}.")
    if any(arg == "--into" or arg.startswith("--into=") for arg in rest):
        raise UserError(
            "verify-resume: --into names one run folder, and it makes two runs, in a folder that goes with them; leave "
            "it out."
        )
    if not any(arg.startswith(("--config", "-c")) for arg in rest):
        raise UserError("verify-resume: name a config with --config configs/...yaml.")
    return options, rest


def _fit(words: Sequence[str], folder: Path, kill_after: int | None) -> Path:
    """Fit with a ledger; the run folder."""
    ledger = {"path": str(folder / "ledger.csv"), "kill_after": kill_after}
    callbacks = [{"class_path": "callbacks.ledger.Ledger", "init_args": ledger}]
    (folder / "ledger.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": callbacks}}))
    every = max(1, (kill_after or 30) // 3)  # the resumed run has some steps to make again
    more = ["--config", str(folder / "ledger.yaml"), "--runs", str(folder), f"--checkpoint.every_n_steps={every}"]
    output = _call(["fit", *words, *more], expected=0 if kill_after is None else -signal.SIGKILL)
    found = re.search(r"^run\s+(\S+)", output, re.MULTILINE)
    assert found is not None, output
    return Path(found[1])


def _call(words: Sequence[str], expected: int) -> str:
    done = subprocess.run([sys.executable, str(ROOT / "cli.py"), *words], capture_output=True, text=True)
    if done.returncode != expected:
        raise UserError(
            f"verify-resume: `{words[0]}` ended with exit code {done.returncode}, not {expected}; fewer steps than "
            f"asked for, or:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def _read(folder: Path) -> dict[Step, list[dict[str, str]]]:
    made: dict[Step, list[dict[str, str]]] = {}
    with open(folder / "ledger.csv", newline="") as file:
        for row in csv.DictReader(file, fieldnames=COLUMNS):
            made.setdefault((int(row["epoch"]), int(row["batch"]), int(row["rank"])), []).append(row)
    return made
