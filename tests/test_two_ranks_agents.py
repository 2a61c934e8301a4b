"""Agents on two ranks: each with environments of its own, and the same weights after every step."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from tests import forked
from tests.conformance import CASES
from toolkit.reinforcement.reinforcement_task import ReinforcementTask
from toolkit.reinforcement.tabular import TabularTask
from toolkit.task import Task

AGENTS = [task for task in CASES if issubclass(task, ReinforcementTask)]


def ledger(task_class: type[Task], folder: Path, *more: str) -> dict[tuple[int, int], dict[int, tuple[str, str]]]:
    """(loss, checksum of the weights) by step and rank."""
    own = "\n".join(
        ["trainer:", "  callbacks+:", "    - class_path: Ledger", f"      init_args: {{path: {folder}/ledger.csv}}"]
    )
    (folder / "ledger.yaml").write_text(own)
    words = ["fit", *CASES[task_class].arguments, "--config", str(folder / "ledger.yaml"), f"--runs={folder}"]
    words += ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=2"]
    done = forked.run([*words, "--wandb.enabled=false", "--test_after_fit=true", *more], ranks=2)
    assert done.returncode == 0, done.stderr
    found: dict[tuple[int, int], dict[int, tuple[str, str]]] = defaultdict(dict)
    with open(folder / "ledger.csv", newline="") as file:
        for rank, epoch, batch, loss, weights, _ in csv.reader(file):
            found[int(epoch), int(batch)][int(rank)] = (loss, weights)
    return found


@pytest.mark.parametrize("task_class", AGENTS, ids=lambda cls: cls.__name__)
def test_ranks_see_different_things_and_stay_alike(task_class: type[Task], tmp_path: Path) -> None:
    found = ledger(task_class, tmp_path)
    assert len(found) == 4  # 80 steps an epoch, of 2 ranks times 2 environments times 10 steps
    assert all(set(ranks) == {0, 1} for ranks in found.values())
    assert all(ranks[0][1] == ranks[1][1] for ranks in found.values())  # bit for bit
    losses = [[float.fromhex(ranks[rank][0]) for ranks in found.values()] for rank in range(2)]
    if not issubclass(task_class, TabularTask):  # which has none
        assert losses[0] != losses[1], "they are of different episodes"
    (run,) = tmp_path.glob("*/*/metrics.csv")
    with open(run) as file:
        rows = list(csv.DictReader(file))
    assert {float(row["env_steps"]) for row in rows if row.get("env_steps")} >= {80.0, 160.0}  # over both ranks
