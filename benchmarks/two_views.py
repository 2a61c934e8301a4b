"""Two views of each image a second: whole batches with a key for each sample and view, against torchvision v2 on PIL.

    python benchmarks/two_views.py [--batches 4] [--rounds 9] [--json FILE]

SimCLR's augmentation of 32 x 32 images: resampled crop, flip, colour jitter (of 80 %), grey (of 20 %), then float32 in
[0, 1], in batches of 500. Ours begins with the uint8 batch and the samples' numbers. The peer takes one PIL image after
the other through torchvision's transforms, twice, then `torch.stack`. Both run in one process on one thread, in turns,
and whoever begins alternates. Decoding is timed for neither.
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
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.augmentation import BATCH, SIZE, check, load_images
from toolkit.keys import sample_keys, view_keys
from toolkit.nn.augmentation import (
    Augmentation,
    ColorJitter,
    RandomApply,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    to_float,
)

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
SCALE = (0.2, 1.0)


def make_ours(images: np.ndarray) -> Callable[[int], None]:
    """Both views of a batch in one call, with the keys of that epoch."""
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().view(-1, BATCH, 3, SIZE, SIZE)
    crop, flip = RandomResizedCrop(SIZE, SCALE), RandomHorizontalFlip()
    augment = Augmentation([crop, flip, RandomApply(ColorJitter(**JITTER), 0.8), RandomGrayscale(0.2)])

    def epoch(number: int) -> None:
        for position, batch in enumerate(batches):
            key = sample_keys(0, number, torch.arange(position * BATCH, (position + 1) * BATCH))
            keys = torch.cat([view_keys(key, 0), view_keys(key, 1)])
            for view in to_float(augment(torch.cat([batch, batch]), keys)).chunk(2):
                check(view)

    return epoch


def make_peer(images: np.ndarray) -> Callable[[int], None]:
    """The same with torchvision, from PIL images to two batches."""
    pictures = [Image.fromarray(image) for image in images]
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(**JITTER)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    def epoch(number: int) -> None:
        for start in range(0, len(pictures), BATCH):
            pairs = [(augment(picture), augment(picture)) for picture in pictures[start : start + BATCH]]
            for view in zip(*pairs, strict=True):
                check(torch.stack(view))

    return epoch


def main() -> None:
    """Measure in turns, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_images(None, options.batches * BATCH)
    sides = {"ours": make_ours(images), "peer": make_peer(images)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name in sorted(sides, reverse=number % 2 == 1):
            start = time.perf_counter()
            sides[name](number)
            if number > 0:  # the first round warms up
                rates[name].append(len(images) / (time.perf_counter() - start))
    rates["ratio"] = [ours / peer for ours, peer in zip(rates["ours"], rates["peer"], strict=True)]
    names = {"ratio": "ratio", "ours": "ours_images_per_second", "peer": "torchvision_images_per_second"}
    spreads = {
        names[side]: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for side, values in rates.items()
    }
    for name, spread in spreads.items():
        print(f"{name} {spread['median']:.4g} [{spread['min']:.4g}, {spread['max']:.4g}]")
    if options.json:
        options.json.write_text(json.dumps({"statistics": spreads}))


if __name__ == "__main__":
    main()
