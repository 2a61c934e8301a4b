"""Start-up: `--help`, `list`, and the time until the first training step is done, against the bare imports.

    python benchmarks/startup.py [--repeats 5] [--json FILE]

The yardstick is a process that only imports lightning, torchvision and wandb; commands take turns with it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/vision/classification_digits.yaml"


def seconds(words: list[str]) -> float:
    """Wall time of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_first_step() -> float:
    """From the start of `fit` to the end of its first training step, as the run's own summary notes it."""
    with tempfile.TemporaryDirectory() as runs:
        start = time.time()
        words = ["cli.py", "fit", "--config", CONFIG, "--trainer.max_epochs=1", "--test_after_fit=false"]
        words += ["--runs", runs]
        seconds(words)
        summary = next(Path(runs).rglob("summary.json"))
        return float(json.loads(summary.read_text())["first_step_at"]) - start


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured: dict[str, list[float]] = {"import": [], "help": [], "list": [], "first_step": []}
    seconds(["-c", "import lightning, torchvision, wandb"])  # the disk's cache
    for _ in range(options.repeats):
        measured["import"].append(seconds(["-c", "import lightning, torchvision, wandb"]))
        measured["help"].append(seconds(["cli.py", "--help"]))
        measured["list"].append(seconds(["cli.py", "list"]))
        measured["first_step"].append(seconds_to_first_step())
    ratios = [first / bare for first, bare in zip(measured["first_step"], measured["import"], strict=True)]
    values: dict[str, float] = {f"{name}_seconds": statistics.median(times) for name, times in measured.items()}
    values["first_step_ratio"] = statistics.median(ratios)
    for name, value in values.items():
        print(f"{name:<20} {value:.3f}")
    if options.json:
        spread = {"median": values["first_step_ratio"], "min": min(ratios), "max": max(ratios)}
        options.json.write_text(json.dumps(values | {"statistics": {"first_step_ratio": spread}}))


if __name__ == "__main__":
    main()
