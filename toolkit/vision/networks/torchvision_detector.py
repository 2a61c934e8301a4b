"""torchvision's published detectors, by name, with their COCO weights."""

from torch import Tensor, nn
from torchvision.models import detection as tv
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from toolkit.errors import UserError
from toolkit.nn.backbone import Staged, stages_of
from toolkit.nn.pretrained import PretrainedNetwork, download_state_dict, pretrained_enabled, read_state_dict
from toolkit.nn.taken_weights import Transfer
from toolkit.vision.networks.detection_heads import HAS_BACKGROUND, sample_by_key
from toolkit.vision.networks.detector import Detector
from toolkit.vision.networks.torchvision_names import address, check_name, published

COCO_MEAN, COCO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""By which the published detectors normalise pixels, but for SSD."""
COCO = 91
"""Numbers of COCO's categories, 0 to 90, some of which it does not use."""
NAMES_CLASSES = ("cls_logits", "cls_score", "bbox_pred", "classification_head")
"""In the names of layers whose shape follows the number of classes."""
FROZEN_EPS = {
    "fasterrcnn_resnet50_fpn": 0.0,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 1e-5,
    "fasterrcnn_mobilenet_v3_large_fpn": 1e-5,
    "fcos_resnet50_fpn": 1e-5,
    "retinanet_resnet50_fpn": 0.0,
}
"""Detectors whose weights were trained with frozen BatchNorm, and what it adds to the variance."""


class TorchvisionDetector(Detector, PretrainedNetwork, Staged):
    """A detector as torchvision publishes it, whose layers that name classes are drawn anew for the data's.

    Images are not resized by it: let the DataModule's ``image_size`` be what the weights know, about 800 pixels, or 300
    for SSD and 320 for SSDlite. With weights, BatchNorm is frozen where torchvision trained
    them so. For weights of a backbone alone, write `FasterRCNN` or another with a `TorchvisionClassifier`.

    Args:
        num_classes: K; with 90, COCO's numbers 1 to 90 as classes 0 to 89, the weights keep their classes.
        in_channels: 3.
        name: One of ``torchvision.models.list_models(module=torchvision.models.detection)`` that finds boxes alone.
        weights: A name such as "DEFAULT" or "COCO_V1", downloaded once, or the path of a state dict of this detector;
            None: random.

    Raises:
        UserError: Unknown name or weights, weights that cannot be had or do not fit, or channels other than 3.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "fasterrcnn_resnet50_fpn",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        check_name(name, tv, "detector of boxes", _finds_boxes_alone)
        if in_channels != 3:
            raise UserError(f"in_channels: {name} takes 3, got {in_channels}; set data.init_args.in_channels to 3.")
        self.name, self.weights = name, weights
        self.url = address(published(name, weights), weights)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.stride = 1 if name.startswith("ssd") else 32
        self.pixel_mean, self.pixel_std = _pixels(name)
        has_background = any(name.startswith(kind) for kind in ("fasterrcnn", "ssd"))
        self.model = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes + has_background)
        assert isinstance(self.model, HAS_BACKGROUND) == has_background
        sample_by_key(self.model)
        if weights is not None:
            if name in FROZEN_EPS:
                _freeze_norm(self.model, FROZEN_EPS[name])
            if pretrained_enabled():
                self.load_pretrained()

    def load_pretrained(self) -> None:
        """Fill all but the layers that name classes, where those are others.

        Raises:
            UserError: There is no such file, it does not fit the architecture, or the download failed.
        """
        assert self.weights is not None, "there are no weights to load"
        state = download_state_dict(self.url) if self.url else read_state_dict(self.weights)
        own = self.model.state_dict()
        missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
        if missing:
            raise UserError(
                f"weights: {self.weights!r} does not fit {self.name}: it has no {', '.join(missing[:3])}; give a state "
                "dict of the same detector."
            )
        values = {key: self._without_background(key, state[key]) for key in own if key in state}
        others = [key for key, value in values.items() if value.shape != own[key].shape]
        if wrong := [key for key in others if not any(part in key for part in NAMES_CLASSES)]:
            raise UserError(
                f"weights: {self.weights!r} does not fit {self.name}: {wrong[0]} is {tuple(values[wrong[0]].shape)} "
                f"there and {tuple(own[wrong[0]].shape)} here; give a state dict of the same detector."
            )
        self.model.load_state_dict(own | {key: value for key, value in values.items() if key not in others})
        self.transfer = Transfer(
            f"{self.weights} of {self.name}" if self.url else self.weights,
            taken=[f"model.{key}" for key in values if key not in others],
            skipped=[f"model.{key} (of other classes)" for key in others],
            unused=[key for key in state if key not in own],
        )

    def _without_background(self, key: str, value: Tensor) -> Tensor:
        """Class layers of one-stage detectors have a row for COCO's number 0, which no category has."""
        if self.num_classes == COCO - 1 and not self.name.startswith(("fasterrcnn", "ssd")) and "cls_logits" in key:
            return value.reshape(-1, COCO, *value.shape[1:])[:, 1:].flatten(0, 1)
        return value

    def stages(self) -> list[list[nn.Module]]:
        """Those of the backbone, then all else as one."""
        parts = dict(self.model.named_children())
        return [*stages_of(parts.pop("backbone")), list(parts.values())]

    def forward_maps(self, image: Tensor) -> dict[str, Tensor]:
        """The backbone's maps."""
        backbone = self.model.get_submodule("backbone")
        maps: dict[str, Tensor] = backbone(image)
        return maps


def _finds_boxes_alone(name: str) -> bool:
    return not name.startswith(("mask", "keypoint"))


def _pixels(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if name == "ssd300_vgg16":
        return (0.48235, 0.45882, 0.40784), (1 / 255,) * 3
    return ((0.5,) * 3, (0.5,) * 3) if name.startswith("ssdlite") else (COCO_MEAN, COCO_STD)


def _freeze_norm(model: nn.Module, eps: float) -> None:
    """Replace BatchNorm by its frozen form, as torchvision does it for these weights."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            model.set_submodule(name, FrozenBatchNorm2d(layer.num_features, eps))
