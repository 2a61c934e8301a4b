"""Masked autoencoders. Shape legend: B batch, C channels, H height, W width, N patches."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.losses.masked_patches import masked_patch_loss
from toolkit.nn.vit import ViT
from toolkit.selfsupervised.image_encoder import ImageEncoder
from toolkit.selfsupervised.networks.masked_autoencoder import MaskedAutoencoder
from toolkit.types import IGNORE_LABEL, ImageBatch, Stage, StepOutput

MASK = 401
"""Stream of `toolkit.keys`."""


class Masked(NamedTuple):
    """Which patches are seen."""

    visible: Tensor
    """``(B, M)``, int64, places of the visible patches, rising."""
    hidden: Tensor
    """``(B, N)``, bool."""


class MAE(ImageEncoder):
    """Guess the pixels of the patches that the encoder was not shown.

    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022. Which patches are hidden is drawn by the
    sample's key.

    Args:
        net: The backbone, a `ViT`; its head is not used.
        masked: Share of the patches that are hidden.
        normalize_patches: Whether the target is each patch normalised by its own mean and deviation.
        decoder_dim: Width of the decoder's tokens.
        decoder_depth: Blocks of the decoder.
        decoder_heads: Attention heads of the decoder.
        **options: Of `toolkit.selfsupervised.image_encoder.ImageEncoder`.

    Raises:
        UserError: A share that hides no patch or all, or another network than a `ViT`.
    """

    net: MaskedAutoencoder

    def __init__(
        self,
        net: ViT,
        masked: float = 0.75,
        normalize_patches: bool = True,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 3,
        **options: Any,
    ) -> None:
        if not isinstance(net, ViT):
            raise UserError(
                f"model.init_args.net: MAE hides the patches of a ViT, got {type(net).__name__}; write ViT."
            )
        autoencoder = MaskedAutoencoder(net, decoder_dim, decoder_depth, decoder_heads)
        patches = autoencoder.decoder.positions.shape[1]
        self_hidden = round(masked * patches)
        if not 0 < self_hidden < patches:
            raise UserError(
                f"model.init_args.masked: {masked} hides {self_hidden} of {patches} patches; some must be hidden and "
                "some visible, such as 0.75."
            )
        super().__init__(autoencoder, **options)
        self.visible_patches = patches - self_hidden
        self.normalize_patches = normalize_patches

    @property
    def backbone(self) -> nn.Module:
        """The encoder."""
        return self.net.backbone

    def mask(self, key: Tensor) -> Masked:
        """Hide patches, each as likely as any other, by keys ``(B,)``."""
        patches = self.net.decoder.positions.shape[1]
        order = keyed_uniform(key, MASK, patches).argsort(dim=1)  # (B, N)
        visible = order[:, : self.visible_patches].sort(dim=1).values
        hidden = torch.ones_like(order, dtype=torch.bool).scatter(1, visible, value=False)
        return Masked(visible, hidden)

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """The mean error of hidden patches; images that could not be read count nowhere."""
        image = batch.image
        if stage == "train" and self.augment is not None:
            image = self.augment(image, batch.key)
        image = self.network_input(image)
        mask = self.mask(batch.key)
        prediction = self.net(image, mask.visible)
        errors = masked_patch_loss(prediction, self.net.patchify(image), mask.hidden, self.normalize_patches)  # (B,)
        readable = batch.label != IGNORE_LABEL
        count = readable.sum()
        loss = (errors * readable).sum() / count.clamp(min=1)
        self.record(stage, count, loss=loss)
        return StepOutput(loss, self.described(batch, stage), weight=count)
