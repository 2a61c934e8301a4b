"""The detection task: boxes in pixels of the files, what is learned from, and what is refused."""

import math

import pytest
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL, DetectionBatch
from toolkit.vision.networks.detection_heads import DetectorOutput
from toolkit.vision.networks.detector import Boxes, Detector
from toolkit.vision.networks.fcos import FCOS
from toolkit.vision.networks.small_cnn import SmallCNN
from toolkit.vision.object_detection import ObjectDetection, targets_of


def batch() -> DetectionBatch:
    """Two images of other sizes, one enlarged, one reduced; two boxes and a crowd, and one box."""
    label = torch.tensor([[0, 1, 1], [1, IGNORE_LABEL, IGNORE_LABEL]])
    box = torch.tensor([[[1.0, 2, 9, 10], [4, 4, 20, 22], [0, 0, 24, 24]], [[2, 2, 12, 14], [0] * 4, [0] * 4]])
    return DetectionBatch(
        image=torch.randint(0, 256, (2, 3, 30, 26), dtype=torch.uint8),
        size=torch.tensor([[24, 24], [30, 20]]),
        original_size=torch.tensor([[12, 12], [90, 60]]),
        box=box,
        label=label,
        crowd=torch.tensor([[False, False, True], [False, False, False]]),
        area=torch.ones(2, 3),
        index=torch.arange(2),
        key=torch.arange(2),
    )


class Oracle(FCOS):
    """A detector that finds given boxes, and notes what it was shown."""

    def __init__(self) -> None:
        super().__init__(2, SmallCNN(1, 3), strides=(2, 4), coarser_maps=0, width=32, depth=1)
        self.found: list[Boxes] = []
        self.seen: tuple[Tensor, object, object] | None = None

    def forward(
        self, image: Tensor, sizes: object, targets: object = None, *args: object, **options: object
    ) -> DetectorOutput:  # type: ignore[override]
        self.seen = image, sizes, targets
        return DetectorOutput({name: torch.ones(()) for name in self.loss_names}, self.found)


def test_nothing_learns_from_padding_and_crowds() -> None:
    """Only the objects themselves are targets."""
    found = targets_of(batch())
    assert [target["labels"].tolist() for target in found] == [[0, 1], [1]]
    assert found[0]["boxes"].tolist() == [[1, 2, 9, 10], [4, 4, 20, 22]]


def test_detections_are_in_pixels_of_the_files() -> None:
    """What is right in the resized image is right in the file: average precision 1, crowds not counted."""
    net = Oracle()
    task = ObjectDetection(net, num_classes=2)
    net.found = [{**target, "scores": torch.full((len(target["labels"]),), 0.9)} for target in targets_of(batch())]
    output = task.step(batch(), "val")
    assert output.loss == 3
    prediction = output.prediction
    assert prediction.box[0].tolist() == [[0.5, 1, 4.5, 5], [2, 2, 10, 11]]
    assert prediction.box[1, 0].tolist() == [6, 6, 36, 42]
    assert prediction.label.tolist() == [[0, 1], [1, IGNORE_LABEL]]
    assert float(task.metrics("val").compute()["val/map"]) == pytest.approx(1)


def test_the_network_sees_padding_as_the_mean_pixel() -> None:
    """Normalised zeros around each image, up to a multiple of the stride."""
    net = Oracle()
    net.found = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}] * 2
    task = ObjectDetection(net, num_classes=2, pixel_mean=[0.2, 0.3, 0.4], pixel_std=[0.1, 0.1, 0.1])
    task.predict_step(batch(), 0)
    assert net.seen is not None
    image, sizes, _ = net.seen
    assert image.shape == (2, 3, 32, 28)
    assert sizes == [(24, 24), (30, 20)]
    assert not image[0, :, 24:].any()
    assert not image[1, :, :, 20:].any()
    assert image[0, :, :24, :24].std() > 1


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other networks, wrong counts, and a precision that rounds boxes."""
    net = Oracle()
    assert isinstance(net, Detector)
    with pytest.raises(UserError, match="no detector"):
        ObjectDetection(SmallCNN(1, 3), num_classes=2)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="class_names: need 2"):
        ObjectDetection(net, num_classes=2, class_names=["a"])
    with pytest.raises(UserError, match="category_ids: need 2"):
        ObjectDetection(net, num_classes=2, category_ids=[1, 2, 3])
    rounded = batch()
    with pytest.raises(UserError, match="bf16-mixed"):
        ObjectDetection(net, num_classes=2).step(rounded._replace(box=rounded.box.bfloat16()), "val")
    assert math.isfinite(float(ObjectDetection(Oracle(), 2).step(batch(), "train").loss))
