"""What a linear classifier reads from an encoder that was trained without labels.

    python benchmarks/linear_probe.py CONFIG --npz FILE [--seeds 1] [--test 1000] [--json FILE] [-- --model.x y ...]

Each seed: the command line trains CONFIG on one thread; logistic regression on the standardised features of the
training images, as they are, is fitted to its end; the first images of the test part are classified once. Beside it, by
the same procedure, the network of the same seed before any training; and the vote of the 20 nearest neighbours among
the standardised pixels of all training images.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import toolkit
from cli import main as command_line
from toolkit.metrics.nearest_neighbours import NeighbourVote, pixel_vectors
from toolkit.selfsupervised.image_encoder import ImageEncoder

BATCH = 500


@torch.no_grad()
def features(task: ImageEncoder, image: Tensor) -> Tensor:
    task.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.cat([task.encode(part) for part in image.split(BATCH)])


def linear_accuracy(task: ImageEncoder, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    scaler = StandardScaler()
    seen = scaler.fit_transform(features(task, train[0]).numpy())
    classifier = LogisticRegression(max_iter=1000).fit(seen, train[1].numpy())
    return float(classifier.score(scaler.transform(features(task, test[0]).numpy()), test[1].numpy()))


def pixel_accuracy(task: ImageEncoder, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    vote = NeighbourVote(pixel_vectors(task.normalize, train[0]), train[1])
    found = torch.cat([vote(pixel_vectors(task.normalize, part)) for part in test[0].split(100)])
    return float((found == test[1]).float().mean())


def measure(words: list[str], seed: int, count: int) -> dict[str, float]:
    """One seed; the encoder that is tested has the best ``val/knn_acc``."""
    with tempfile.TemporaryDirectory() as runs:
        made: Any = command_line(
            ["fit", *words, "--seed_everything", str(seed), "--runs", runs, "--wandb.enabled", "false"]
        )
        summary = json.loads((made.run_folder / "summary.json").read_text())
        trained = toolkit.load(made.run_folder)
        drawn = toolkit.load(made.run_folder)
    assert isinstance(trained, ImageEncoder)
    assert isinstance(drawn, ImageEncoder)
    torch.manual_seed(seed)
    drawn.backbone.reset_parameters()
    data = made.datamodule
    train, test = (data.dataset(stage) for stage in ("train", "test"))
    train, test = train.read(torch.arange(len(train))), test.read(torch.arange(min(count, len(test))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    probe = linear_accuracy(trained, train, test)
    probe_seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    random, pixels = linear_accuracy(drawn, train, test), pixel_accuracy(trained, train, test)
    return {
        "probe_acc": probe,
        "random_acc": random,
        "pixel_knn_acc": pixels,
        "gain": probe - max(random, pixels),
        "val_knn_acc": summary["best"],
        "train_cpu_seconds": summary["train_cpu_seconds"],
        "probe_cpu_seconds": probe_seconds,
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--npz", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options, more = parser.parse_known_args()
    torch.set_num_threads(1)
    words = ["--config", options.config, "--data.path", options.npz, *more]
    rows = [measure(words, seed, options.test) for seed in range(options.seeds)]
    found = {name: [row[name] for row in rows] for name in rows[0]}
    spreads = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in found.items()
    }
    for name, spread in spreads.items():
        print(f"{name} {spread['median']:.4g} [{spread['min']:.4g}, {spread['max']:.4g}]")
    if options.json:
        options.json.write_text(json.dumps({"statistics": spreads}))


if __name__ == "__main__":
    main()
