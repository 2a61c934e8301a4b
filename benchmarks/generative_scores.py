"""Score generators of MNIST side by side by the toolkit's own classifier.

    python benchmarks/generative_scores.py --data DIR --classifier RUN --models gan=RUN [vae=RUN ...] [--json FILE]

RUN is a run folder or checkpoint, or a config that is trained first, --seeds times:
configs/vision/classification_mnist.yaml for the classifier, configs/generative/*_mnist.yaml for the models. Each draws
--count images, classes in turn. Reported are, as the median over trainings with minimum and maximum, the Fréchet
classifier distance to as many test images, beside its floor (that of as many training images), the share that the
classifier reads as the class asked for, and precision and recall of manifolds. With --inception FILE (weights that
torchmetrics' `NoTrainInceptionV3` reads) the true FID is reported as well.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import toolkit
from cli import main as cli
from datamodules.mnist import MNISTDataModule
from toolkit.generative.image_generator import ImageGenerator
from toolkit.metrics.classifier_scores import FrechetClassifierDistance, share_as_asked
from toolkit.metrics.manifold import manifold_precision_recall
from toolkit.vision.image_classification import ImageClassification

CHUNK = 1000
MANIFOLD = 2000
"""Images whose neighbourhoods are compared."""


def images_of(data: MNISTDataModule, stage: Any) -> tuple[Tensor, Tensor]:
    """Images in ``[0, 1]`` and labels of a split."""
    split = data.dataset(stage)
    image, label = split.read(torch.arange(len(split)))
    return image.float() / 255, label


@torch.no_grad()
def read(classifier: ImageClassification, image: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits, in parts."""
    parts = [classifier.read(part) for part in image.split(CHUNK)]
    return torch.cat([p.features for p in parts]), torch.cat([p.logits for p in parts])


def score(classifier: ImageClassification, real: Tensor, fake: Tensor, label: Tensor | None) -> dict[str, float]:
    """All scores of one set of images against the real ones."""
    (real_features, _), (features, logits) = read(classifier, real), read(classifier, fake)
    distance = FrechetClassifierDistance(classifier, features.shape[1])
    for a, b in zip(real.split(CHUNK), fake.split(CHUNK), strict=False):
        distance.update(a, b)
    precision, recall = manifold_precision_recall(real_features[:MANIFOLD], features[:MANIFOLD])
    values = {"frechet_classifier_distance": float(distance.compute()), "precision": precision, "recall": recall}
    return values | ({} if label is None else {"as_asked": share_as_asked(logits, label)})


def fid(weights: str, real: Tensor, fake: Tensor) -> float:
    """The true FID, by torchmetrics, on the user's Inception weights."""
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=weights)
    metric = FrechetInceptionDistance(feature=network, normalize=True)
    for image, is_real in ((real, True), (fake, False)):
        for part in image.split(100):
            metric.update(part.expand(-1, 3, -1, -1), real=is_real)
    return float(metric.compute())


def trained(run: str, data: str, folder: str, seed: int = 0) -> Path:
    """The run folder that is meant; a config is trained."""
    if not run.endswith(".yaml"):
        return Path(run)
    words = ["fit", "--config", run, "--data.root", data, "--runs", folder, "--wandb.enabled=false"]
    made = cli([*words, f"--seed_everything={seed}", "--trainer.enable_progress_bar=false"])
    return Path(made.run_folder)


def training_cost(run: Path) -> dict[str, float]:
    """CPU seconds of the training, where the run says so."""
    file = run / "summary.json"
    return {"train_cpu_seconds": json.loads(file.read_text())["train_cpu_seconds"]} if file.is_file() else {}


def score_of_run(run: Path, classifier: ImageClassification, real: Tensor, inception: str | None) -> dict[str, float]:
    """Scores of as many images as there are real ones, classes in turn, and what they cost."""
    model = toolkit.load(run)
    assert isinstance(model, ImageGenerator)
    label = torch.arange(len(real)) % len(model.class_names) if model.is_conditional else None
    began = time.process_time()
    fake = model.sample(len(real), seed=0, label=label)
    cost = training_cost(run) | {"sampling_cpu_seconds": time.process_time() - began}
    values = cost | score(classifier, real, fake, label)
    return values | ({"fid": fid(inception, real, fake)} if inception else {})


def main() -> None:
    """Score, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--models", nargs="+", required=True, help="NAME=RUN")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each config")
    parser.add_argument("--inception")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp()
    classifier_run = trained(options.classifier, options.data, folder)
    classifier = toolkit.load(classifier_run)
    assert isinstance(classifier, ImageClassification)
    data = MNISTDataModule(root=options.data)
    real, real_label = images_of(data, "test")
    accuracy = share_as_asked(read(classifier, real)[1], real_label)
    real = real[: options.count]  # the distance falls with the number of images: floor and models have the same
    train, train_label = images_of(data, "train")
    rows = {"real (floor)": [score(classifier, real, train[: len(real)], train_label[: len(real)])]}
    for word in options.models:
        name, _, given = word.partition("=")
        seeds = range(options.seeds if given.endswith(".yaml") else 1)
        runs = [trained(given, options.data, folder, seed) for seed in seeds]
        rows[name] = [score_of_run(run, classifier, real, options.inception) for run in runs]
    print(f"classifier  {classifier_run}, accuracy {accuracy:.4f} on {len(real_label)} test images")
    print(f"scored      {len(real)} images of each kind")
    found = {f"{name}/{key}": [row[key] for row in many] for name, many in rows.items() for key in many[0]}
    for key, values in found.items():
        print(f"{key:<44}{statistics.median(values):.4g}  [{min(values):.4g}, {max(values):.4g}]")
    if options.json:
        spread = {k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in found.items()}
        options.json.write_text(json.dumps({"classifier_acc": accuracy, "statistics": spread}, indent=1))


if __name__ == "__main__":
    main()
