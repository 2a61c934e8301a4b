"""One row a task: what the conformance suite needs to put any task through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from datamodules.base import BaseDataModule
from datamodules.digits import DigitsDataModule
from examples.parity import Parity
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN


@dataclass(frozen=True)
class Case:
    """A task, built in Python and through the command line."""

    net: Callable[[], nn.Module]
    build: Callable[[nn.Module], Task]
    data: Callable[[], BaseDataModule]
    arguments: tuple[str, ...]
    """The same task and data in the command line's words."""
    uneven: tuple[str, ...] = ()
    """What makes the ranks' shares of a batch's loss differ."""


def digits() -> BaseDataModule:
    return DigitsDataModule(batch_size=64)


CASES: dict[type[Task], Case] = {
    ImageClassification: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: ImageClassification(net, num_classes=10, label_smoothing=0.1),
        data=digits,
        arguments=("--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule"),
        uneven=("--model.class_weights=[1,2,3,4,5,6,7,8,9,20]",),
    ),
    Parity: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=1),
        build=lambda net: Parity(net),
        data=digits,
        arguments=(
            "--model=examples.parity.Parity",
            "--model.net=SmallCNN",
            "--model.net.num_classes=1",
            "--data=DigitsDataModule",
        ),
    ),
}
