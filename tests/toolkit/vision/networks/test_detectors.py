"""Detectors: losses and detections from one pass, whatever the mode; sampling by key; images without boxes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.image_list import ImageList

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.vision.networks.detection_heads import Boxes
from toolkit.vision.networks.detector import Detector
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
    assert loss > 0
    assert any(gradient.any() for gradient in gradients), "background is learned"
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_maps_are_of_the_whole_place() -> None:
    """What a network was shown first does not say how it pools later."""
    one, other = small(FasterRCNN, score_threshold=0.0).eval(), small(FasterRCNN, score_threshold=0.0).eval()
    flat = images(1)
    flat[:, :, 24:] = 0
    with torch.no_grad():
        one(flat, [(24, 48)])
        found = [net(images(), SIZES).detections for net in (one, other)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a["boxes"], b["boxes"])


def test_no_proposal_is_left() -> None:
    """Of a tiny image without boxes: losses are finite."""
    net = small(FasterRCNN).train()
    net.model.rpn.min_size = 1e3  # type: ignore[union-attr, assignment]
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = net(images(1), SIZES[:1], [nothing], KEYS[:1], detects=False).losses
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("kind", [RetinaNet, FCOS, SSDlite])
def test_losses_are_torchvision_s(kind: type[Detector]) -> None:
    """Of one image: what its own training forward gives for the same maps, whatever the mode here."""
    net = small(kind).eval()
    image, size, target = images(1), [(48, 48)], targets()[:1]
    first = 1 if kind is SSDlite else 0
    with torch.no_grad():
        ours = net(image, size, target, KEYS[:1], detects=False).losses
        maps = net.forward_maps(image)
        theirs = net.model
        theirs.backbone = _Maps(maps)
        theirs.transform = _Pass()  # type: ignore[assignment]
        theirs.training = True  # of it alone: the heads' BatchNorm stays as it is
        expected = theirs(list(image), [{"boxes": target[0]["boxes"], "labels": target[0]["labels"] + first}])
    for name, value in zip(net.loss_names, _ordered(expected), strict=True):
        torch.testing.assert_close(ours[name], value)


class _Maps(nn.Module):
    """A backbone that has computed its maps."""

    def __init__(self, maps: dict[str, Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.maps


class _Pass(nn.Module):
    """No resizing and no normalisation."""

    def forward(self, images: list[Tensor], targets: list[Boxes]) -> tuple[ImageList, list[Boxes]]:
        return ImageList(torch.stack(images), [(48, 48)] * len(images)), targets


def _ordered(losses: dict[str, Tensor]) -> list[Tensor]:
    return [losses[name] for name in ("classification", "bbox_regression", "bbox_ctrness") if name in losses]


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_finds_boxes_in_float32(kind: type[Detector]) -> None:
    """Under autocast losses and boxes are of 32 bits."""
    net = small(kind, score_threshold=0.0).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = net(images(), SIZES, targets(), KEYS)
    assert all(loss.dtype == torch.float32 for loss in output.losses.values())
    assert all(found["boxes"].dtype == torch.float32 for found in output.detections)


def test_coco_s_classes_are_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """RetinaNet's 91 published rows to 90 classes: all but number 0."""
    torch.manual_seed(0)
    theirs = get_model("retinanet_resnet50_fpn", weights=None, weights_backbone=None, num_classes=91)
    file = tmp_path_factory.mktemp("weights") / "retinanet.pth"
    torch.save(theirs.state_dict(), file)
    net = TorchvisionDetector(90, name="retinanet_resnet50_fpn", weights=str(file))
    name = "head.classification_head.cls_logits.bias"
    ours, published = (model.state_dict()[name] for model in (net.model, theirs))
    assert torch.equal(ours.reshape(9, 90), published.reshape(9, 91)[:, 1:])
    with pytest.raises(UserError, match="does not fit fcos_resnet50_fpn"):
        TorchvisionDetector(3, name="fcos_resnet50_fpn", weights=str(file))


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
    assert net.transfer is not None
    assert net.transfer.skipped == []
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
    scale = torch.tensor([320 / batch.image_sizes[0][0]])  # theirs are in pixels of the image before its resizing
    torch.testing.assert_close(found["boxes"] * scale, expected["boxes"], atol=0.1, rtol=1e-3)


CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: TorchvisionDetector(K, name="fasterrcnn_resnet5_fpn"), "Did you mean"),
    (lambda: TorchvisionDetector(K, weights="COCO_V7"), "has no 'COCO_V7', only COCO_V1"),
    (lambda: TorchvisionDetector(K, in_channels=1), "in_channels"),
    (lambda: FCOS(K, SmallCNN(1, 3), strides=(2, 4), width=20), "multiple of 32"),
    (lambda: FasterRCNN(K, SmallCNN(1, 3), strides=(2, 4)), "anchor_sizes"),
    (
        lambda: FCOS(K, SmallCNN(1, 3), strides=(1, 4)),
        r"each twice the one before, such as \[8, 16, 32\], got \[1, 4\]",
    ),
    (lambda: RetinaNet(K, SmallCNN(1, 3), strides=(8, 16, 32)), "no map at stride 8, 16, 32, only at 1, 2, 4"),
]


@pytest.mark.parametrize(("call", "text"), CALLS)
def test_errors(call: Callable[[], object], text: str) -> None:
    """Say what is wrong."""
    with pytest.raises(UserError, match=text):
        call()
