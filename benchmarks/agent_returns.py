"""Train agents over seeds through the command line, and play 100 episodes with the last and with the best checkpoint.

    python benchmarks/agent_returns.py CONFIG [--seeds 5] [--json FILE] [-- OPTIONS OF FIT ...]

Prints a row a seed, beside a random policy and the best constant action, and the median over the seeds. The episodes
begin with the same 100 seeds in every run, which no training and no validation has seen.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cli import main
from toolkit.commands.seeds import interquartile_mean

COLUMNS = ("final/return_mean", "best/return_mean", "train_cpu_seconds", "steps_per_cpu_second")


def measure(config: str, seed: int, options: list[str], runs: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """One seed: its numbers, and its learning curve on the validation's episodes."""
    words = ["fit", "--config", config, "--seed_everything", str(seed), "--runs", runs, "--test_after_fit", "false"]
    made = main([*words, "--wandb.enabled", "false", *options])
    run = made.run_folder
    summary = json.loads((run / "summary.json").read_text())
    found = {"train_cpu_seconds": summary["train_cpu_seconds"]}
    found["steps_per_cpu_second"] = int(made.model.env_steps) / found["train_cpu_seconds"]
    for name in ("last", "best"):
        tested = main(["test", "--ckpt_path", str(run / "checkpoints" / f"{name}.ckpt")])
        label = "final" if name == "last" else name
        found[f"{label}/return_mean"] = float(tested.trainer.callback_metrics["test/return_mean"])
    baseline = tested.model.baseline(tested.datamodule, "test")
    found["baseline/final/return_mean"] = baseline.metrics["return_mean"]
    found["best constant action"] = baseline.others[0].metrics["return_mean"]
    return found, curve(run / "metrics.csv")


def curve(file: Path) -> dict[str, list[float]]:
    """Validation's mean return by environment steps."""
    with open(file, newline="") as rows:
        kept = [row for row in csv.DictReader(rows) if row.get("val/return_mean")]
    return {name: [float(row[name]) for row in kept] for name in ("env_steps", "val/return_mean")}


def run() -> None:
    """Measure all seeds, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = sys.argv[1:]
    options = parser.parse_args(given[: given.index("--")] if "--" in given else given)
    more = given[given.index("--") + 1 :] if "--" in given else []
    with tempfile.TemporaryDirectory() as runs:
        seeds = range(options.first, options.first + options.seeds)
        measured = [measure(options.config, seed, more, runs) for seed in seeds]
    rows, curves = [row for row, _ in measured], [points for _, points in measured]
    print("\n" + "  ".join(["seed", *COLUMNS]))
    for seed, row in zip(seeds, rows, strict=True):
        print("  ".join([f"{seed:>4}", *(f"{row[name]:>{len(name)}.4g}" for name in COLUMNS)]))
    table = {name: spread([row[name] for row in rows]) for name in rows[0]}
    for name in table:
        print(f"{name}: median {table[name]['median']:.4g} [{table[name]['min']:.4g}, {table[name]['max']:.4g}]")
    if options.json:
        options.json.write_text(json.dumps({"statistics": table, "curves": curves}))


def spread(values: list[float]) -> dict[str, Any]:
    """What may be said of some seeds."""
    middle = {"median": statistics.median(values), "iqm": interquartile_mean(values)}
    return {**middle, "min": min(values), "max": max(values), "seeds": values}


if __name__ == "__main__":
    run()
