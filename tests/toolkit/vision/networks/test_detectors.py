"""Detectors: losses and detections from one pass, whatever the mode; sampling by key; images without boxes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.vision.networks.detector import Boxes, Detector
from toolkit.vision.networks.faster_rcnn import FasterRCNN
from toolkit.vision.networks.fcos import FCOS
from toolkit.vision.networks.retinanet import RetinaNet
from toolkit.vision.networks.small_cnn import SmallCNN
from toolkit.vision.networks.ssdlite import SSDlite
from toolkit.vision.networks.torchvision_detector import TorchvisionDetector

K = 3
SIZES = [(40, 48), (48, 40)]


def small(kind: type[Detector], **options: object) -> Detector:
    """A detector for images of 48 pixels."""
    torch.manual_seed(0)
    backbone = SmallCNN(num_classes=1, in_channels=3, widths=(4, 8, 16, 16))
    own: dict[type[Detector], dict[str, object]] = {
        FasterRCNN: {"anchor_sizes": (12, 24), "proposals": 30, "samples": 16, "box_width": 16, "width": 8},
        RetinaNet: {"anchor_sizes": (8, 16), "width": 8},
        FCOS: {"coarser_maps": 0, "width": 32, "depth": 1},
        SSDlite: {"extra_widths": (8,)},
    }
    return kind(K, backbone, strides=(4, 8), **own[kind], **options)  # type: ignore[call-arg]


KINDS = [FasterRCNN, RetinaNet, FCOS, SSDlite]


def images(count: int = 2) -> Tensor:
    """Noise within the sizes."""
    image = torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    for one, (height, width) in zip(image, SIZES, strict=False):
        one[:, height:], one[:, :, width:] = 0, 0
    return image


def targets() -> list[Boxes]:
    """Two boxes, and one."""
    return [
        {"boxes": torch.tensor([[2.0, 3, 20, 19], [25, 10, 45, 33]]), "labels": torch.tensor([0, 2])},
        {"boxes": torch.tensor([[8.0, 8, 30, 40]]), "labels": torch.tensor([1])},
    ]


KEYS = sample_keys(0, 0, torch.arange(2))


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_gives_both_and_leaves_the_network_alone(kind: type[Detector]) -> None:
    """Neither losses nor detections depend on the other; modes, statistics and the global generator stay."""
    net = small(kind, score_threshold=0.0).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.random.get_rng_state()
    with torch.no_grad():
        both = net(images(), SIZES, targets(), KEYS)
        losses = net(images(), SIZES, targets(), KEYS, detects=False)
        found = net(images(), SIZES)
    assert not net.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert tuple(both.losses) == net.loss_names
    assert losses.detections == []
    assert found.losses == {}
    for name in net.loss_names:
        torch.testing.assert_close(both.losses[name], losses.losses[name])
    for one, other in zip(both.detections, found.detections, strict=True):
        assert len(one["scores"]) > 0
        for name, value in one.items():
            torch.testing.assert_close(value, other[name])
        assert ((one["labels"] >= 0) & (one["labels"] < K)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_means_over_images(kind: type[Detector]) -> None:
    """An image's losses are the same in any batch: its boxes are sampled by its key."""
    net = small(kind).eval()
    together = net(images(), SIZES, targets(), KEYS, detects=False).losses
    alone = [
        net(images()[i : i + 1], SIZES[i : i + 1], targets()[i : i + 1], KEYS[i : i + 1], detects=False).losses
        for i in range(2)
    ]
    for name in net.loss_names:
        torch.testing.assert_close(together[name], (alone[0][name] + alone[1][name]) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_has_a_box(kind: type[Detector]) -> None:
    """Such a batch trains: all is background, and every loss is finite with finite gradients."""
    net = small(kind).train()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = net(images(), SIZES, [nothing, nothing], KEYS, detects=False).losses
    loss = torch.stack(list(losses.values())).sum()
    loss.backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_two_images(kind: type[Detector]) -> None:
    """Some steps on two images lower the loss by half."""
    net = small(kind, freeze_norm=True).train()
    optimizer = torch.optim.Adam(
        (p for p in net.parameters() if p.requires_grad), lr=1e-3 if kind is RetinaNet else 5e-3
    )
    values = []
    for _ in range(40):
        losses = net(images(), SIZES, targets(), KEYS, detects=False).losses
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0], values


def test_frozen_norm_stays_in_evaluation() -> None:
    """Its scales get no gradient and its statistics stay, as the network comes and in training mode."""
    net = small(FCOS, freeze_norm=True)
    assert isinstance(net, FCOS)
    norms = [layer for layer in net.maps.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert not any(layer.training or layer.weight.requires_grad for layer in norms)
    before = [layer.running_mean.clone() for layer in norms if layer.running_mean is not None]
    for one in (net, net.train()):
        one(images(), SIZES, targets(), KEYS, detects=False)
    assert all(torch.equal(layer.running_mean, old) for layer, old in zip(norms, before, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_published_detectors_find_what_torchvision_finds(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same weights on the same pixels."""
    torch.manual_seed(0)
    options: dict[str, object] = {"box_score_thresh": 0.0} if name.startswith("faster") else {}
    theirs = get_model(name, weights=None, weights_backbone=None, num_classes=K + 1, **options).eval()
    file = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(theirs.state_dict(), file)
    net = TorchvisionDetector(K, name=name, weights=str(file)).eval()
    if name.startswith("faster"):
        net.model.roi_heads.score_thresh = 0.0  # type: ignore[union-attr, assignment]
    with torch.no_grad():
        image = torch.rand(3, 320, 320)
        batch, _ = theirs.transform([image])
        expected = theirs([image])[0]
        found = net(batch.tensors, batch.image_sizes).detections[0]
    assert len(expected["scores"]) > 0
    torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["labels"], expected["labels"] - 1)


CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: TorchvisionDetector(K, name="fasterrcnn_resnet5_fpn"), "Did you mean"),
    (lambda: TorchvisionDetector(K, weights="COCO_V7"), "has no 'COCO_V7', only COCO_V1"),
    (lambda: TorchvisionDetector(K, in_channels=1), "in_channels"),
    (lambda: FCOS(K, SmallCNN(1, 3), strides=(2, 4), width=20), "multiple of 32"),
    (lambda: FasterRCNN(K, SmallCNN(1, 3), strides=(2, 4)), "anchor_sizes"),
    (lambda: RetinaNet(K, SmallCNN(1, 3), strides=(8, 16, 32)), "no map at stride 8, 16, 32, only at 1, 2, 4"),
]


@pytest.mark.parametrize(("call", "text"), CALLS)
def test_errors(call: Callable[[], object], text: str) -> None:
    """Say what is wrong."""
    with pytest.raises(UserError, match=text):
        call()
