"""SimCLR."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.losses.nt_xent import nt_xent_loss
from toolkit.selfsupervised.networks.projection_head import ProjectedBackbone
from toolkit.selfsupervised.two_views import ComparedBatch


class SimCLR(ComparedBatch):
    """Tell the other view of an image from the views of all other images.

    Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
    2020.

    Args:
        net: The backbone: a classifier's network, whose head is not used.
        projection: Widths of the projector's layers; BatchNorm and ReLU after each but the last.
        temperature: Of the loss.
        batch_norm: In the projector.
        **options: Of `toolkit.selfsupervised.image_encoder.ImageEncoder`.

    Raises:
        UserError: A temperature that is not above 0; in training, a batch of fewer than two images.
    """

    def __init__(
        self,
        net: nn.Module,
        projection: Sequence[int] = (512, 128),
        temperature: float = 0.5,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        if temperature <= 0:
            raise UserError(f"model.init_args.temperature: need a number above 0, got {temperature}; such as 0.5.")
        super().__init__(ProjectedBackbone(net, projection, batch_norm), **options)
        self.temperature = temperature

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """NT-Xent."""
        return {"loss": nt_xent_loss(first, second, self.temperature)}
