"""Every config on two ranks: it trains, and evaluates to what one rank gives; rows stay in order."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cli import main
from tests import forked
from tests.test_configs import RUNNABLE, data, overrides  # noqa: F401  # data is a fixture
from tests.two_ranks_worker import work

QUICK = ("classification_digits", "classification_npz", "dqn_cartpole")
"""Run by default; the others are slow."""
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def two_ranks(lines: list[list[str]], folder: Path) -> dict[str, float]:
    """Run command lines one after another on two ranks; the metrics of the last one."""
    done = forked.call(work, [lines, Path("metrics.json")], cwd=folder, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics: dict[str, float] = json.loads(Path("metrics.json").read_text())
    return metrics


@pytest.mark.parametrize(
    "config", [pytest.param(c, marks=[] if Path(c).stem in QUICK else [pytest.mark.slow]) for c in RUNNABLE]
)
def test_config_on_two_ranks(config: str, data: dict[str, str], workdir: Path) -> None:  # noqa: F811
    own = [word for word in overrides(config, data) if "devices" not in word and "precision" not in word]
    exact = [*own, "--wandb.enabled=false"]
    is_agent = "reinforcement" in config  # whose episodes are dealt to the ranks; it acts in 32 bits
    exact += [] if is_agent else ["--trainer.precision=64-true", "--data.eval_batch_size=8"]
    exact += ["--data.val_size=0.1"] if "imagenet" in config else []  # by default one image of the small set
    short = [
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1",
        "--trainer.devices=1",
        "--test_after_fit=false",
    ]
    exact += ["--trainer.limit_val_batches=1.0"] if "transfer" in config else []  # which has no validation
    run = main(["fit", "--config", config, *exact, *short]).run_folder
    verb = (
        "validate" if any(n in config for n in ("folder", "transfer", "tinyshakespeare")) else "test"
    )  # no test split
    test = [verb, "--ckpt_path", str(run), "--trainer.accelerator=cpu"]
    one = {name: float(value) for name, value in main(test).trainer.callback_metrics.items()}
    two = two_ranks([["fit", "--config", config, *exact, *TWO, "--trainer.fast_dev_run=true"], [*test, *TWO]], workdir)
    assert any(name.endswith("return_mean" if is_agent else "loss") for name in one)
    assert two == pytest.approx(one, rel=1e-6, abs=1e-6)


def test_eleven_samples_predicted_by_two_ranks_keep_their_order(workdir: Path) -> None:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 3
    np.savez("tiny.npz", train_images=images, train_labels=labels, test_images=images[:11], test_labels=labels[:11])
    run = main(
        ["fit", "--model=ImageClassification", "--model.net=SmallCNN", "--data=NPZDataModule", "--data.path=tiny.npz",
         "--data.batch_size=10", "--data.eval_batch_size=4", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
         "--data.val_size=0.2", "--wandb.enabled=false"]
    ).run_folder  # fmt: skip
    predict = ["predict", "--ckpt_path", str(run), "--trainer.accelerator=cpu"]
    main([*predict, "--output=one.csv"])
    two_ranks([[*predict, "--output=two/rows.csv", *TWO]], workdir)
    assert [file.name for file in Path("two").iterdir()] == ["rows.csv"]
    one, two = (list(csv.reader(Path(name).read_text().splitlines())) for name in ("one.csv", "two/rows.csv"))
    assert [row[0] for row in two] == ["path", *(f"test[{i}]" for i in range(11))]
    assert [row[1] for row in two] == [row[1] for row in one]
    assert [float(row[2]) for row in two[1:]] == pytest.approx([float(row[2]) for row in one[1:]], abs=1e-5)
