"""Find anomalies by what a denoising autoencoder of one digit cannot reconstruct, beside PCA on the same split.

    python benchmarks/anomaly.py --data DIR [--seeds 3] [--stage test] [--json FILE]

For each digit of MNIST: configs/selfsupervised/anomaly_mnist.yaml is trained on its images, and PCA with 32 components
on the same ones; the nine other digits are anomalous. Reported is the area under the
ROC curve of the reconstruction error, mean over the ten digits, as median over seeds. CPU seconds are those of all ten
trainings of a seed. Options that are not known go to `fit`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cli import main as cli
from datamodules.image import LabelledImages
from datamodules.wrapped import OneClassDataModule

CONFIG = "configs/selfsupervised/anomaly_mnist.yaml"
DIGITS = tuple("0123456789")
COMPONENTS = 32


def pixels(split: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, H * W)`` in ``[0, 1]`` and labels."""
    image, label = split.read(torch.arange(len(split)))
    return image.flatten(1).float().div(255).numpy(), label.numpy()


def pca(data: OneClassDataModule, stage: str) -> float:
    """AUROC of the reconstruction error of PCA."""
    train, _ = pixels(data.dataset("train"))
    image, label = pixels(data.dataset(stage))  # type: ignore[arg-type]
    model = PCA(COMPONENTS, random_state=0).fit(train)
    error = np.square(model.inverse_transform(model.transform(image)) - image).mean(axis=1)
    return float(roc_auc_score(label, error))


def autoencoder(
    digit: str, seed: int, stage: str, root: str, folder: str, more: list[str]
) -> tuple[float, float, float]:
    """AUROC of a training and of PCA, and CPU seconds of the training."""
    words = ["--config", CONFIG, "--data.source.init_args.root", root, "--data.normal", digit, "--runs", folder]
    before = time.process_time()
    made = cli(
        ["fit", *words, "--seed_everything", str(seed), "--wandb.enabled=false", "--test_after_fit=false", *more]
    )
    spent = time.process_time() - before
    verb = "validate" if stage == "val" else "test"
    found = cli([verb, "--ckpt_path", str(made.run_folder), "--wandb.enabled=false"]).trainer.callback_metrics
    return float(found[f"{stage}/auroc"]), pca(made.datamodule, stage), spent


def main() -> None:
    """Train, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stage", choices=("val", "test"), default="test")
    parser.add_argument("--digits", nargs="+", default=DIGITS)
    parser.add_argument("--json", type=Path)
    options, more = parser.parse_known_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            found = [autoencoder(d, seed, options.stage, options.data, folder, more) for d in options.digits]
            for digit, (ours, linear, spent) in zip(options.digits, found, strict=True):
                print(f"seed {seed}  digit {digit}  autoencoder {ours:.4f}  PCA {linear:.4f}  {spent:.0f} CPU-s")
            mean = np.mean(found, axis=0)
            rows.append({"auroc": mean[0], "baseline/auroc": mean[1], "train_cpu_seconds": mean[2] * len(found)})
    spread = {}
    for name in rows[0]:
        values = [float(row[name]) for row in rows]
        spread[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        print(f"{name}  {spread[name]['median']:.4f} [{spread[name]['min']:.4f}, {spread[name]['max']:.4f}]")
    if options.json:
        options.json.write_text(json.dumps({n: v["median"] for n, v in spread.items()} | {"statistics": spread}))


if __name__ == "__main__":
    main()
