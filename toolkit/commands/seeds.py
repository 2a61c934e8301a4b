"""The verb `seeds`: one config over n seeds, and what may be said of it: median, IQM with its interval, spread."""

import argparse
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolkit.commands.index import ROOT
from toolkit.errors import UserError


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half, the outermost samples weighted by the share that lies inside (Agarwal et al., 2021).

    "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021.

    >>> interquartile_mean([0.0, 1.0, 2.0, 3.0])
    1.5
    >>> interquartile_mean([1.0, 2.0, 9.0])
    3.0
    """
    ordered, n = sorted(values), len(values)
    weights = [max(0.0, min(i + 1, 0.75 * n) - max(i, 0.25 * n)) for i in range(n)]
    return sum(w * v for w, v in zip(weights, ordered, strict=True)) / sum(weights)


def bootstrap_interval(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float], resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic (Efron, 1979), with a fixed seed.

    >>> bootstrap_interval([2.0, 2.0, 2.0], interquartile_mean)
    (2.0, 2.0)
    """
    draw = random.Random(0)
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - level) / 2
    return found[int(tail * resamples)], found[int((1 - tail) * resamples) - 1]


def summarize(runs: Sequence[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Statistics over seeds of every number that all runs' summaries share."""
    shared = [key for key in runs[0] if all(_is_number(run.get(key)) for run in runs) and key != "first_step_at"]
    table = {}
    for key in shared:
        values = [float(run[key]) for run in runs]  # type: ignore[arg-type]
        low, high = bootstrap_interval(values, interquartile_mean)
        table[key] = {
            "median": statistics.median(values),
            "mean": statistics.fmean(values),
            "iqm": interquartile_mean(values),
            "iqm_low": low,
            "iqm_high": high,
            "min": min(values),
            "max": max(values),
        }
    return table


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def seeds(args: Sequence[str]) -> dict[str, dict[str, float]]:
    """Fit a config once a seed, each in its own process, and print and write the statistics.

    Args:
        args: ``--n N``, ``--first SEED``, ``--jobs J`` (processes at once); everything else goes to `fit`.
    """
    options, rest = _options(args)
    if not any(arg.startswith(("--config", "-c")) for arg in rest):
        raise UserError("seeds: name a config with --config configs/...yaml.")
    _check_one_run_a_seed(rest)
    numbers = range(options.first, options.first + options.n)
    with ThreadPoolExecutor(options.jobs) as pool:
        fits = list(pool.map(lambda seed: _fit(rest, seed), numbers))
    table = summarize([json.loads((folder / "summary.json").read_text()) | measured for folder, measured in fits])
    _report(table, [folder for folder, _ in fits], numbers)
    return table


def _options(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--n", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    try:
        options, rest = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(f"seeds: {error}.") from error
    if options.n < 1 or options.jobs < 1 or options.first < 0:
        raise UserError(f"seeds: need --n >= 1, --jobs >= 1 and --first >= 0, got {vars(options)}.")
    return options, rest


def _check_one_run_a_seed(words: Sequence[str]) -> None:
    """Refuse what would make all seeds the same run, gone on with again and again."""
    if any(word == "--into" or word.startswith("--into=") for word in words):
        raise UserError(
            "seeds: --into names one run folder for all seeds, and each would go on with the one before; leave it out, "
            "or say with --runs below which folder the runs are to lie."
        )
    if "--ckpt_path=last" in words or ("--ckpt_path", "last") in itertools.pairwise(words):
        raise UserError(
            "seeds: --ckpt_path last goes on with one run, whatever the seed; leave it out, or name the checkpoint "
            "from which every seed is to start with --ckpt_path RUN_FOLDER_OR_CHECKPOINT."
        )


def _fit(args: Sequence[str], seed: int) -> tuple[Path, dict[str, float]]:
    """Fit in a process of its own; its run folder, and what the whole command took, start-up included."""
    command = [sys.executable, str(ROOT / "cli.py"), "fit", *args, "--seed_everything", str(seed)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    measured = {"wall_seconds": time.perf_counter() - start}
    found = re.search(r"^run\s+(\S+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise UserError(f"seeds: seed {seed} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    print(f"seed {seed}: {found[1]}", flush=True)
    return Path(found[1]), measured


def _report(table: dict[str, dict[str, float]], folders: Sequence[Path], numbers: Sequence[int]) -> None:
    width = max(map(len, table))
    print(f"\n{'':<{width}}  {'median':>10} {'IQM':>10}  {'95 % interval':>23} {'min':>10} {'max':>10}")
    for name, row in table.items():
        interval = f"[{row['iqm_low']:.4g}, {row['iqm_high']:.4g}]"
        print(
            f"{name:<{width}}  {row['median']:>10.4g} {row['iqm']:>10.4g}  {interval:>23} "
            f"{row['min']:>10.4g} {row['max']:>10.4g}"
        )
    file = folders[0].parent / f"seeds-{folders[0].name}.json"
    content = {"seeds": list(numbers), "runs": [str(folder) for folder in folders], "statistics": table}
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nwritten to {file}")
