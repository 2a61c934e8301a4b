"""Images augmented per second: whole batches with a key for each sample, against torchvision v2 one image at a time.

    python benchmarks/augmentation.py [--npz FILE] [--batches 20] [--rounds 15] [--json FILE]

A random crop after 4 pixels of padding and a random flip of RGB images of 32x32 pixels, then float32 in [0, 1], in
batches of 500. Ours begins with the uint8 batch and the samples' numbers, so that the computation of the keys counts.
The peer is the usual data set's path: one PIL image after the other through torchvision's transforms, then
`torch.stack`. Both take the same images in one process on one thread, in turns, and whoever begins alternates. Decoding
is timed for neither: the uint8 tensor and the PIL images are there before.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import Augmentation, RandomCrop, RandomHorizontalFlip, to_float

BATCH, SIZE, PADDING = 500, 32, 4


def load_images(file: Path | None, n: int) -> np.ndarray:
    """``(n, H, W, 3)``, uint8: ``train_images`` of an .npz file, or drawn."""
    if file is None:
        return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    images: np.ndarray = np.load(file)["train_images"]
    if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3) or len(images) < n:
        raise SystemExit(f"{file}: need {n} uint8 images of {SIZE}x{SIZE}x3, got {images.dtype} of {images.shape}")
    return images[:n]


def make_ours(images: np.ndarray) -> Callable[[int], None]:
    """Augment every batch, with the keys of that epoch."""
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().view(-1, BATCH, 3, SIZE, SIZE)
    augment = Augmentation([RandomCrop(padding=PADDING), RandomHorizontalFlip()])

    def epoch(number: int) -> None:
        for position, batch in enumerate(batches):
            key = sample_keys(0, number, torch.arange(position * BATCH, (position + 1) * BATCH))
            check(to_float(augment(batch, key)))

    return epoch


def make_peer(images: np.ndarray) -> Callable[[int], None]:
    """The same with torchvision, from PIL images to a batch."""
    pictures = [Image.fromarray(image) for image in images]
    crop, flip = v2.RandomCrop(SIZE, padding=PADDING), v2.RandomHorizontalFlip()
    augment = v2.Compose([crop, flip, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    def epoch(number: int) -> None:
        for start in range(0, len(pictures), BATCH):
            check(torch.stack([augment(picture) for picture in pictures[start : start + BATCH]]))

    return epoch


def check(batch: Tensor) -> None:
    """Both must deliver the same kind of batch; costs no pass over the pixels."""
    assert batch.shape == (BATCH, 3, SIZE, SIZE)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_images(options.npz, options.batches * BATCH)
    sides = {"ours": make_ours(images), "peer": make_peer(images)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name in sorted(sides, reverse=number % 2 == 1):
            start = time.perf_counter()
            sides[name](number)
            if number > 0:  # the first round warms up
                rates[name].append(len(images) / (time.perf_counter() - start))
    rates["ratio"] = [ours / peer for ours, peer in zip(rates["ours"], rates["peer"], strict=True)]
    spreads = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in (
            ("ratio", rates["ratio"]),
            ("ours_images_per_second", rates["ours"]),
            ("torchvision_images_per_second", rates["peer"]),
        )
    }
    for name, spread in spreads.items():
        print(f"{name} {spread['median']:.4g} [{spread['min']:.4g}, {spread['max']:.4g}]")
    if options.json:
        options.json.write_text(json.dumps({"statistics": spreads}))


if __name__ == "__main__":
    main()
