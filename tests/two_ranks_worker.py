"""What each of several processes does: runs command lines in turn, and writes the last one's metrics."""

import json
from pathlib import Path

import torch
from torchvision.datasets import cifar

from cli import main


def work(lines: list[list[str]], output: Path) -> None:
    cifar.check_integrity = lambda *args: True  # whose sums are the real files'
    torch.set_num_threads(1)
    for words in lines:
        made = main(words)
    metrics = {name: float(value) for name, value in made.trainer.callback_metrics.items()}
    if made.trainer.is_global_zero:
        output.write_text(json.dumps(metrics))
