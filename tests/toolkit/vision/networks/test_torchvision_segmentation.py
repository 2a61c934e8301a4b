from pathlib import Path
from typing import Any

import pytest
import torch

import toolkit.vision.networks.torchvision_segmentation as module
from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters
from toolkit.vision.networks.torchvision_segmentation import TorchvisionSegmentation

SMALL = "lraspp_mobilenet_v3_large"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(TorchvisionSegmentation(21, name=SMALL).model.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_weights_of_a_file_but_for_another_number_of_classes(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    for classes, kept in ((21, True), (4, False)):
        own = TorchvisionSegmentation(classes, name=SMALL, weights=str(file)).model.state_dict()
        for name, value in state.items():
            answers = "low_classifier" in name or "high_classifier" in name
            assert (kept or not answers) == (own[name].shape == value.shape and torch.equal(own[name], value)), name


def test_a_published_name_is_downloaded_and_normalises(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = []

    def download(url: str) -> dict[str, torch.Tensor]:
        urls.append(url)
        state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
        return state

    monkeypatch.setattr(module, "download_state_dict", download)
    net = TorchvisionSegmentation(4, name=SMALL, weights="DEFAULT")
    assert urls[0].startswith("https://download.pytorch.org/models/lraspp_mobilenet_v3_large")
    assert net.pixel_mean == [0.485, 0.456, 0.406]
    assert net.transfer is not None
    assert net.transfer.lines()[0].startswith(f"backbone    DEFAULT of {SMALL}: ")
    assert len(net.transfer.taken) + len(net.transfer.skipped) == len(net.state_dict())


def test_an_auxiliary_head_answers_in_training_only() -> None:
    net = TorchvisionSegmentation(4, name="deeplabv3_mobilenet_v3_large")
    logits, auxiliary = net(torch.randn(2, 3, 40, 32))
    assert logits.shape == auxiliary.shape == (2, 4, 40, 32)
    assert net.eval()(torch.randn(2, 3, 40, 32)).shape == (2, 4, 40, 32)
    stages = stage_parameters(net)
    assert sorted(id(p) for stage in stages for p in stage) == sorted(map(id, net.parameters()))
    assert any(p is q for q in stages[-1] for p in net.model.classifier.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "deeplab_resnet50"}, "no segmentation network 'deeplab_resnet50'. Did you mean 'deeplabv3_resnet50'"),
        ({"in_channels": 1}, "deeplabv3_resnet50 takes 3, the data has 1"),
        ({"weights": "IMAGENET"}, "has no 'IMAGENET', only COCO_WITH_VOC_LABELS_V1, DEFAULT"),
        ({"weights": "missing.pth"}, "no such file: 'missing.pth'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        TorchvisionSegmentation(4, **options)
    assert message in str(caught.value)


def test_a_file_of_another_architecture_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match="does not fit deeplabv3_mobilenet_v3_large"):
        TorchvisionSegmentation(21, name="deeplabv3_mobilenet_v3_large", weights=str(file))
