"""The exact return of greedy policies that tabular agents have learned, beside what is possible and what is random.

    python benchmarks/tabular_returns.py CONFIG [--seeds 5] [--first 0] [--json FILE] [-- OPTIONS OF FIT ...]

Each seed: the command line trains CONFIG. From the environment's own table of transitions follows what the greedy
policies of its last and of its best checkpoint earn on average, time limit included: nothing is played and nothing
drawn. Beside them the policy that value iteration finds with the agent's discount, the bound that no policy exceeds
even if it knew the steps left, and the random policy.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import toolkit
from benchmarks.agent_returns import curve, spread
from cli import main as command_line
from toolkit.reinforcement.exact_return import (
    TransitionTable,
    exact_return,
    greedy_policy,
    optimal_return,
    uniform_policy,
    value_iteration,
)
from toolkit.reinforcement.tabular import TabularTask


def measure(config: str, seed: int, options: list[str], runs: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """One seed: its numbers, and its learning curve on the validation's episodes."""
    words = ["fit", "--config", config, "--seed_everything", str(seed), "--runs", runs, "--test_after_fit", "false"]
    made: Any = command_line([*words, "--wandb.enabled", "false", *options])
    environment = made.datamodule.environments.make(training=False)
    table, limit = TransitionTable.of(environment), environment.spec.max_episode_steps
    environment.close()
    summary = json.loads((made.run_folder / "summary.json").read_text())
    best_fixed = greedy_policy(value_iteration(table, made.model.gamma))
    found = {
        "final/exact_return": learned(made.run_folder / "checkpoints" / "last.ckpt", table, limit),
        "best/exact_return": learned(made.run_folder / "checkpoints" / "best.ckpt", table, limit),
        "value iteration": exact_return(table, best_fixed, limit),
        "bound": optimal_return(table, limit),
        "baseline/final/exact_return": exact_return(table, uniform_policy(table), limit),
        "env_steps": float(made.model.env_steps),
        "train_cpu_seconds": summary["train_cpu_seconds"],
    }
    return found, curve(made.run_folder / "metrics.csv")


def learned(checkpoint: Path, table: TransitionTable, limit: int) -> float:
    """Of the greedy policy of a checkpoint."""
    task = toolkit.load(checkpoint)
    assert isinstance(task, TabularTask)
    return exact_return(table, greedy_policy(task.net.value.detach()), limit)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = sys.argv[1:]
    options = parser.parse_args(given[: given.index("--")] if "--" in given else given)
    more = given[given.index("--") + 1 :] if "--" in given else []
    seeds = range(options.first, options.first + options.seeds)
    with tempfile.TemporaryDirectory() as runs:
        measured = [measure(options.config, seed, more, runs) for seed in seeds]
    rows, curves = [row for row, _ in measured], [points for _, points in measured]
    print("seed  final     best      CPU-s")
    for seed, row in zip(seeds, rows, strict=True):
        print(
            f"{seed:<4}  {row['final/exact_return']:<8.4f}  {row['best/exact_return']:<8.4f}  "
            f"{row['train_cpu_seconds']:.1f}"
        )
    table = {name: spread([row[name] for row in rows]) for name in rows[0]}
    for name, found in table.items():
        print(f"{name} {found['median']:.4f} [{found['min']:.4f}, {found['max']:.4f}]")
    if options.json:
        options.json.write_text(json.dumps({"statistics": table, "curves": curves}))


if __name__ == "__main__":
    main()
