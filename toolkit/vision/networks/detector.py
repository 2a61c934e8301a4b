"""What every detector is to its task: images and boxes in, losses and detections out.

Shape legend: B batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images
from toolkit.vision.networks.dense import DenseNetwork
from toolkit.vision.networks.detection_heads import (
    HAS_BACKGROUND,
    Boxes,
    DetectorOutput,
    loss_names,
    run_heads,
)


class Detector(nn.Module, ABC):
    """A network with one of torchvision's detectors, ``model``, whose parts it calls.

    Attributes:
        model: Of which a subclass may leave the backbone empty.
        in_channels: C.
        stride: Heights and widths of batches are padded to multiples of it.
    """

    model: nn.Module
    in_channels: int
    stride: int

    @abstractmethod
    def forward_maps(self, image: Tensor) -> dict[str, Tensor]:
        """The maps that the heads see of images ``(B, C, H, W)``, by name."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses, whose sum is minimised."""
        return loss_names(self.model)

    def forward(
        self,
        image: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Boxes] | None = None,
        key: Tensor | None = None,
        detects: bool = True,
    ) -> DetectorOutput:
        """Losses, detections, or both from one pass; neither depends on the other, nor on training or evaluation mode.

        Args:
            image: ``(B, C, H, W)``, float, normalised; H and W multiples of ``stride``.
            sizes: Height and width of each image, which lies in the upper left corner.
            targets: "boxes" ``(M, 4)`` and "labels" ``(M,)``, from 0 on, of each image; None: no losses.
            key: ``(B,)``, int64, the images' keys; needed with targets.
            detects: Whether detections are wanted.

        Returns:
            Losses by name, and of each image "boxes", "scores" and "labels", from 0 on.
        """
        check_images(image, self.in_channels)
        first = 1 if isinstance(self.model, HAS_BACKGROUND) else 0
        if targets is not None:
            targets = [{"boxes": t["boxes"], "labels": t["labels"] + first} for t in targets]
        output = run_heads(self.model, image, sizes, self.forward_maps(image), targets, key, detects)
        found = [{**boxes, "labels": boxes["labels"] - first} for boxes in output.detections]
        return DetectorOutput(output.losses, found)


class PyramidDetector(Detector, DenseNetwork, ABC):
    """A detector over the feature pyramid of any backbone.

    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    Args:
        backbone: A classifier's network, see `toolkit.nn.feature_maps.FeatureMaps`.
        strides: Of the backbone's maps, rising.
        width: Channels of the pyramid.
        extra: What makes coarser maps still.
        freeze_norm: Keep the backbone's BatchNorm as it came.

    Raises:
        UserError: A backbone without such maps, or strides that the detector cannot deal objects to.
    """

    needs_doubling_strides: ClassVar[bool] = True
    """Whether an object's size says which map is its own, with nothing between two maps."""

    def __init__(
        self,
        backbone: nn.Module,
        strides: Sequence[int],
        width: int,
        extra: ExtraFPNBlock | None,
        freeze_norm: bool,
    ) -> None:
        if self.needs_doubling_strides and any(b != 2 * a for a, b in pairwise(strides)):
            raise UserError(
                f"{type(self).__name__}.strides: need each twice the one before, such as [8, 16, 32], got "
                f"{list(strides)}."
            )
        super().__init__(backbone, strides, freeze_norm)
        self.pyramid = FeaturePyramidNetwork(self.maps.widths, width, extra)
        self.stride = strides[-1]

    def forward_maps(self, image: Tensor) -> dict[str, Tensor]:
        """The pyramid."""
        maps: dict[str, Tensor] = self.pyramid({str(i): m for i, m in enumerate(self.maps(image))})
        return maps


class NoBackbone(nn.Module):
    """Stands where torchvision's models want a backbone, to tell them how wide its maps are."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
