"""The MLP between a backbone and a loss. Shape legend: B batch, D width of the features."""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.backbone import feature_width, features_of, freeze_head


class ProjectionHead(nn.Sequential):
    """Linear layers; after each but the last, BatchNorm and ReLU.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, section 4.2.
    Torch's own initialisation.

    Args:
        widths: From the input's to the output's.
        batch_norm: Whether there is BatchNorm; its statistics are each rank's own unless the Trainer synchronises it.

    Raises:
        UserError: Fewer than two widths, or one that is not positive.
    """

    def __init__(self, widths: Sequence[int], batch_norm: bool = True) -> None:
        if len(widths) < 2 or min(widths) < 1:
            raise UserError(f"projection: need widths of at least 1, such as [512, 128], got {list(widths)[1:]}.")
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths[:-1]):
            layers.append(nn.Linear(before, after, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(nn.ReLU())
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1]))


class ProjectedBackbone(nn.Module):
    """A backbone and the head whose output the loss sees.

    Args:
        backbone: A classifier's network; its own head is left alone and frozen.
        projection: Widths of the head's layers.
        batch_norm: In the head.
    """

    def __init__(self, backbone: nn.Module, projection: Sequence[int], batch_norm: bool) -> None:
        super().__init__()
        self.projector = ProjectionHead([feature_width(backbone), *projection], batch_norm)
        self.backbone = backbone
        freeze_head(backbone)

    def forward(self, image: Tensor) -> Tensor:
        """Projections ``(B, projection[-1])`` of images ``(B, C, H, W)``."""
        projection: Tensor = self.projector(features_of(self.backbone, image))
        return projection


class BootstrapPair(ProjectedBackbone):
    """An online network that predicts what a slowly moving copy of it, the target, makes of the other view.

    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, figure 2. The target never gets a gradient; its BatchNorm
    sees its own batches, as in the authors' code.

    Args:
        backbone: A classifier's network; its own head is left alone and frozen.
        projection: Widths of the projector's layers; those of the predictor are the same.
        batch_norm: In the heads.
    """

    def __init__(self, backbone: nn.Module, projection: Sequence[int], batch_norm: bool) -> None:
        super().__init__(backbone, projection, batch_norm)
        self.predictor = ProjectionHead([projection[-1], *projection], batch_norm)
        self.target = ProjectedBackbone(copy.deepcopy(backbone), projection, batch_norm)
        self.target.projector.load_state_dict(self.projector.state_dict())
        self.target.requires_grad_(False)

    def predict(self, image: Tensor) -> Tensor:
        """What the target is expected to make of the other views of images ``(B, C, H, W)``."""
        prediction: Tensor = self.predictor(self(image))
        return prediction

    @torch.no_grad()
    def project_target(self, image: Tensor) -> Tensor:
        """The target's projections of images ``(B, C, H, W)``."""
        projection: Tensor = self.target(image)
        return projection

    @torch.no_grad()
    def move_target(self, momentum: float) -> None:
        """``target = momentum * target + (1 - momentum) * online``, the parameters only."""
        online, target = (self._followed(net) for net in (self, self.target))
        torch._foreach_lerp_(target, online, 1 - momentum)

    @staticmethod
    def _followed(net: ProjectedBackbone) -> list[Tensor]:
        return [*net.backbone.parameters(), *net.projector.parameters()]
