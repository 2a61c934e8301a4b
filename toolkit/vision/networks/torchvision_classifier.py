"""Any image classifier of torchvision, with a fresh head and, if asked for, weights trained on ImageNet."""

import re
from typing import Any, Self

import torchvision.models as tv
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer, WeightsEnum

from toolkit.errors import UserError
from toolkit.nn.backbone import Staged, stages_of
from toolkit.nn.image_input import check_images
from toolkit.nn.pretrained import PretrainedNetwork, download_state_dict, pretrained_enabled, read_state_dict
from toolkit.nn.taken_weights import Transfer
from toolkit.vision.networks.torchvision_names import address, check_name, published

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""How the names of the auxiliary classifiers begin."""


class TorchvisionClassifier(PretrainedNetwork, Staged):
    """A torchvision architecture whose last linear layer is replaced by one for the data's classes.

    The auxiliary classifiers of GoogLeNet and Inception are left out. Trained from scratch, the first convolution is
    built for ``in_channels``.

    Args:
        num_classes: K.
        in_channels: C; 3 for weights trained on ImageNet.
        name: One of ``torchvision.models.list_models(module=torchvision.models)``.
        weights: A name such as "DEFAULT" or "IMAGENET1K_V2", downloaded once; or the path of a state dict of this
            architecture, whose head is left out; None: random. A published file given by its path is known by its
            name, and sets ``pixel_mean`` and ``pixel_std`` too.
        freeze_backbone: Train the head alone: the backbone gets no gradients, and in training it computes as in
            evaluation (BatchNorm keeps its statistics, nothing is dropped).

    Raises:
        UserError: Unknown name or weights, weights that cannot be had or do not fit, channels other than 3 for weights
            trained on ImageNet, or a frozen backbone without weights.

    >>> import torch
    >>> net = TorchvisionClassifier(num_classes=5, in_channels=3, name="shufflenet_v2_x0_5").eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        weights: str | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        check_name(name, tv, "classifier")
        self.name = name
        self.weights = weights
        self.in_channels = in_channels
        self.freeze_backbone = freeze_backbone
        entry = published(name, weights, _classifies)
        self._check_arguments(from_imagenet=entry is not None)
        if entry is not None:
            preset = entry.transforms()
            self.pixel_mean, self.pixel_std = list(preset.mean), list(preset.std)
        self.url = address(entry, weights)
        self.backbone = tv.get_model(name, weights=None, **_builder_options(name, entry))
        self.exact_size = _exact_size(self.backbone)
        self.smallest_size = _smallest_size(name, self.backbone)
        self.head_name, width = _remove_head(self.backbone, name)
        if in_channels != 3:
            _adapt_stem(self.backbone, in_channels)
        self.head = nn.Linear(width, num_classes)
        self.reset_head()
        self.backbone.requires_grad_(not freeze_backbone)
        self.train()  # a fit keeps the modes that a network comes with, so a frozen backbone must come in evaluation
        if weights is not None and pretrained_enabled():
            self.load_pretrained()

    def _check_arguments(self, from_imagenet: bool) -> None:
        if from_imagenet and self.in_channels != 3:
            raise UserError(
                f"in_channels: the weights {self.weights!r} of {self.name} were trained on 3 channels, the data has "
                f"{self.in_channels}; set data.init_args.in_channels to 3, or weights to null."
            )
        if self.freeze_backbone and self.weights is None:
            raise UserError(
                "freeze_backbone: it would freeze random weights; set weights to DEFAULT or to the path of a state "
                "dict, or freeze_backbone to false."
            )

    def reset_head(self) -> None:
        """Draw the head anew, so small that all classes begin equal; torchvision's code draws the backbone."""
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def load_pretrained(self) -> None:
        """Fill the backbone from the weights' file or address; the head stays as it is.

        Raises:
            UserError: There is no such file, it does not fit the architecture, or the download failed.
        """
        assert self.weights is not None, "there are no weights to load"
        state = download_state_dict(self.url) if self.url else read_state_dict(self.weights)
        theirs = list(state)
        _to_backbone(state, self.head_name)
        try:
            self.backbone.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines()[1:4]]
            raise UserError(
                f"weights: {self.weights!r} does not fit {self.name}: {' '.join(lines) or error}; "
                "give a state dict of the same architecture."
            ) from error
        taken = [f"backbone.{name}" for name in state]
        unused = [name for name in theirs if name.startswith((f"{self.head_name}.", *AUXILIARY))]
        source = f"{self.weights} of {self.name}" if self.url else self.weights
        self.transfer = Transfer(source, taken, skipped=["head.weight", "head.bias"], unused=unused)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def stages(self) -> list[list[nn.Module]]:
        """Those of the backbone, a normalisation with the layer before it, and the head."""
        backbone = self.backbone
        if isinstance(backbone, VisionTransformer):
            return [
                [backbone.conv_proj],
                *([block] for block in backbone.encoder.layers),
                [backbone.encoder.ln, self.head],
            ]
        stages: list[list[nn.Module]] = []
        for stage in stages_of(backbone):
            if stages and isinstance(stage[0], (_BatchNorm, nn.LayerNorm)):
                stages[-1] += stage
            else:
                stages.append(stage)
        return [*stages, [self.head]]

    def forward_features(self, image: Tensor) -> Tensor:
        """The head's input.

        Args:
            image: ``(B, C, H, W)``, float, normalised.

        Returns:
            ``(B, D)``.

        Raises:
            UserError: Another number of channels, or a size that the architecture cannot take.
        """
        check_images(image, self.in_channels, self.exact_size)
        smallest = self.smallest_size
        if min(image.shape[2:]) < smallest:
            raise UserError(
                f"image_size: {self.name} needs images of at least {smallest} x {smallest}, got "
                f"{list(image.shape[2:])}; set data.init_args.image_size to [{smallest}, {smallest}] or more."
            )
        features: Tensor = self.backbone(image)  # (B, D)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, C, H, W)``."""
        logits: Tensor = self.head(self.forward_features(image))  # (B, K)
        return logits


def _classifies(entry: WeightsEnum) -> bool:
    """Without categories are weights of the convolutions alone, whose other layers are not numbers."""
    return bool(entry.meta.get("categories"))


def _builder_options(name: str, entry: WeightsEnum | None) -> dict[str, Any]:
    """What torchvision's builder must be told, so that the network is the one that the weights were trained in."""
    if name in ("googlenet", "inception_v3"):
        # These weights came from TensorFlow: the network shifts pixels from ImageNet's statistics to its own.
        return {"aux_logits": False, "init_weights": True, "transform_input": entry is not None}
    if name.startswith("vit_") and entry is not None:
        return {"image_size": entry.meta["min_size"][0]}
    return {}


def _remove_head(backbone: nn.Module, name: str) -> tuple[str, int]:
    """Replace the last linear layer by the identity; its name and its input's width."""
    linear = [(path, module) for path, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(
            f"name: {name} ends in a convolution and not in a linear layer, so its head cannot be replaced; "
            "choose another architecture, such as mobilenet_v3_small."
        )
    path, head = linear[-1]
    backbone.set_submodule(path, nn.Identity())
    return path, head.in_features


def _adapt_stem(backbone: nn.Module, in_channels: int) -> None:
    """Let the first convolution take another number of channels; its bias stays."""
    stem = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    stem.in_channels = in_channels
    stem.weight = nn.Parameter(stem.weight.new_empty(stem.out_channels, in_channels, *stem.kernel_size))
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")


def _to_backbone(state: dict[str, Tensor], head_name: str) -> None:
    """Drop the classifiers, main and auxiliary, and give DenseNet's oldest files today's names.

    Changes the dict in place: it carries the version numbers that MNASNet reads.
    """
    for key in list(state):
        if key.startswith((f"{head_name}.", *AUXILIARY)):
            del state[key]
        elif old := re.fullmatch(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)", key):
            state[old[1] + old[2]] = state.pop(key)


def _exact_size(backbone: nn.Module) -> tuple[int, int] | None:
    """The one ``(H, W)`` of architectures whose positions are tied to it."""
    if isinstance(backbone, VisionTransformer):
        return (backbone.image_size, backbone.image_size)
    return (224, 224) if isinstance(backbone, MaxVit) else None


def _smallest_size(name: str, backbone: nn.Module) -> int:
    """Least height and width; Swin pads its windows, so that it takes less than torchvision's table says."""
    if isinstance(backbone, SwinTransformer):
        return 4
    if isinstance(backbone, (VisionTransformer, MaxVit)):
        return 1  # they have an exact size
    return int(tv.get_model_weights(name).DEFAULT.meta["min_size"][0])
