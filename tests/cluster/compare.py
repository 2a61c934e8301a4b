"""Compares two runs: `python -m tests.cluster.compare (metrics|weights|one_run) FOLDER [OTHER]`."""

import csv
import math
import sys
from pathlib import Path

import torch


def rows(run: Path) -> list[dict[str, float]]:
    """What a run logged, without its speed."""
    with open(run / "metrics.csv", newline="") as file:
        found = [{k: float(v) for k, v in row.items() if v and "perf/" not in k} for row in csv.DictReader(file)]
    return [row for row in found if len(row) > 1]


def metrics(run: Path, other: Path) -> None:
    """Every logged number is the same to 1e-6."""
    a, b = rows(run), rows(other)
    assert len(a) == len(b) > 10, (len(a), len(b))
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys(), (x, y)
        worst = max(worst, *(abs(x[key] - y[key]) for key in x if not math.isnan(x[key])))
    assert worst <= 1e-6, worst
    print(f"{len(a)} rows, largest difference {worst:.1e}")


def weights(run: Path, other: Path) -> None:
    """The last checkpoints hold the same bits."""
    a, b = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, other)
    )
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    print(f"{len(a)} tensors, all bits equal")


def one_run(run: Path) -> None:
    """One run folder, one W&B run."""
    folders = [path.name for path in run.parent.iterdir() if (path / "config.yaml").is_file()]
    assert folders == [run.name], folders
    ids = {path.name.partition("-")[2].partition("-")[2].partition("-")[2] or path.name
           for path in (run / "wandb").glob("offline-run-*")}  # fmt: skip
    assert len(ids) == 1, ids
    print(f"one run folder, one W&B run {ids.pop()}")


if __name__ == "__main__":
    {"metrics": metrics, "weights": weights, "one_run": one_run}[sys.argv[1]](*map(Path, sys.argv[2:]))
