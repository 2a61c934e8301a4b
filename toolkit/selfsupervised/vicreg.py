"""VICReg."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.losses.vicreg import vicreg_terms
from toolkit.selfsupervised.networks.projection_head import ProjectedBackbone
from toolkit.selfsupervised.two_views import ComparedBatch


class VICReg(ComparedBatch):
    """Let the two views of an image agree, keep every component varying, and components apart.

    Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR
    2022.

    Args:
        net: The backbone: a classifier's network, whose head is not used.
        projection: Widths of the projector's (the paper's expander's) layers; BatchNorm and ReLU after each but the
            last.
        invariance: Weight of the distance of two views.
        variance: Weight of what the components' deviations lack.
        covariance: Weight of the components' covariances.
        batch_norm: In the projector.
        **options: Of `toolkit.selfsupervised.image_encoder.ImageEncoder`.

    Raises:
        UserError: A negative weight; in training, a batch of fewer than two images.
    """

    def __init__(
        self,
        net: nn.Module,
        projection: Sequence[int] = (2048, 2048, 2048),
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        if min(invariance, variance, covariance) < 0:
            raise UserError(
                "model.init_args: need invariance, variance and covariance of 0 or more, got "
                f"{invariance}, {variance} and {covariance}."
            )
        scalars = ("loss", "invariance", "variance", "covariance")
        super().__init__(ProjectedBackbone(net, projection, batch_norm), scalars=scalars, **options)
        self.weights = (invariance, variance, covariance)

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """The weighted sum, and its terms without weights."""
        terms = vicreg_terms(first, second)
        loss = sum((weight * term for weight, term in zip(self.weights, terms, strict=True)), terms.invariance * 0)
        return {"loss": loss, **terms._asdict()}
