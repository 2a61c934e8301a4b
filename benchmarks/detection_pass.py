"""A validation pass that gives loss and average precision, against one that gives average precision alone.

    python benchmarks/detection_pass.py [--images 48] [--rounds 7] [--json FILE]

Scenes of digits, 256 pixels wide, through Faster R-CNN, RetinaNet, FCOS and SSDlite over EfficientNet-Lite0 without
weights, on one thread, in turns; whoever begins alternates. Both sides update and compute the metric. The ratio is the
median over the rounds, of the worst detector.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from datamodules.digit_detection import DigitScenesDataModule
from toolkit.metrics.average_precision import CocoAveragePrecision
from toolkit.types import DetectionBatch
from toolkit.vision.networks.detector import Detector
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite
from toolkit.vision.networks.faster_rcnn import FasterRCNN
from toolkit.vision.networks.fcos import FCOS
from toolkit.vision.networks.retinanet import RetinaNet
from toolkit.vision.networks.ssdlite import SSDlite
from toolkit.vision.object_detection import ObjectDetection

K, SIZE, BATCH = 10, 256, 8


def detectors() -> dict[str, Detector]:
    """One of each kind, of the size that a CPU trains."""
    torch.manual_seed(0)
    narrow = {"width": 64}
    return {
        "faster_rcnn": FasterRCNN(
            K, EfficientNetLite(), anchor_sizes=(16, 32, 64, 128), box_width=256, proposals=200, samples=128, **narrow
        ),
        "retinanet": RetinaNet(K, EfficientNetLite(), anchor_sizes=(16, 32, 64), **narrow),
        "fcos": FCOS(K, EfficientNetLite(), coarser_maps=0, **narrow),
        "ssdlite": SSDlite(K, EfficientNetLite()),
    }


@torch.no_grad()
def evaluate(task: ObjectDetection, batches: list[DetectionBatch], with_loss: bool) -> float:
    """Seconds of a pass over the batches."""
    start = time.perf_counter()
    metric = CocoAveragePrecision(K)
    for number, batch in enumerate(batches):
        prediction = task.step(batch, "val").prediction if with_loss else task.predict_step(batch, number)
        if not with_loss:  # `step` has updated the task's own
            metric.update(prediction, batch)
    metric = task.metrics("val")["CocoAveragePrecision"] if with_loss else metric
    metric.compute()
    metric.reset()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = DigitScenesDataModule((8, 8, options.images), image_size=SIZE, scale=(3.0, 8.0), eval_batch_size=BATCH)
    data.prepare_data()
    batches = list(data.test_dataloader())
    found: dict[str, dict[str, float]] = {}
    for name, net in detectors().items():
        task = ObjectDetection(net, K, pixel_mean=data.pixel_mean, pixel_std=data.pixel_std).eval()
        evaluate(task, batches[:1], with_loss=True)
        ratios = []
        for number in range(options.rounds):
            seconds = {side: evaluate(task, batches, side) for side in sorted((True, False), reverse=number % 2 == 1)}
            ratios.append(seconds[True] / seconds[False])
        found[name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        print(f"{name}: loss and average precision take {found[name]['median']:.3f} times as long", flush=True)
    worst = max(found.values(), key=lambda spread: spread["median"])
    result = {name: spread["median"] for name, spread in found.items()} | {"ratio": worst["median"]}
    if options.json:
        options.json.write_text(json.dumps({**result, "statistics": {**found, "ratio": worst}}))


if __name__ == "__main__":
    main()
