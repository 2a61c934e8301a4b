"""The two players of a GAN as one network.

Shape legend: B batch, Z code dimensions, C channels, H height, W width, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.spectral_norm import spectral_norm as spectral_norm_of


class AdversarialPair(nn.Module):
    """A generator and a discriminator.

    Args:
        generator: Codes ``(B, latent_dim)``, with one-hot classes ``(B, K)`` behind them if the pair is conditional, to
            images ``(B, C, H, W)`` in ``[-1, 1]``.
        discriminator: Images to features ``(B, F)``, of which a logit is read.
        features: F.
        latent_dim: Z.
        num_classes: K, or None for a pair that knows no classes. The generator gets the class with the code, the
            discriminator adds the product of its features with the class's vector to the logit (Miyato and Koyama,
            "cGANs with Projection Discriminator", ICLR 2018).
        spectral_norm: Divide each weight of the discriminator by its largest singular value (Miyato et al., "Spectral
            Normalization for Generative Adversarial Networks", ICLR 2018).
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        features: int,
        latent_dim: int,
        num_classes: int | None = None,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.generator = generator
        self.discriminator = nn.ModuleDict({"features": discriminator, "logit": nn.Linear(features, 1)})
        if num_classes is not None:
            self.discriminator["class_vector"] = nn.Embedding(num_classes, features)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)  # Radford et al., 2016, section 4
        if spectral_norm:
            for module in self.discriminator.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                    spectral_norm_of(module)

    def generate(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Images ``(B, C, H, W)`` in ``[-1, 1]`` of codes ``(B, Z)`` and classes ``(B,)``."""
        if code.ndim != 2 or code.shape[1] != self.latent_dim:
            raise UserError(f"generate: need codes (B, {self.latent_dim}), got {tuple(code.shape)}.")
        if self.num_classes is not None:
            one_hot = F.one_hot(self._known(label), self.num_classes).to(code.dtype)
            code = torch.cat([code, one_hot], dim=1)
        image: Tensor = self.generator(code)
        return image

    def discriminate(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits ``(B,)``, high for real images, of images ``(B, C, H, W)`` in ``[-1, 1]`` and classes ``(B,)``."""
        features = self.discriminator["features"](image)  # (B, F)
        logit: Tensor = self.discriminator["logit"](features)[:, 0]
        if self.num_classes is not None:
            logit = logit + (features * self.discriminator["class_vector"](self._known(label))).sum(dim=1)
        return logit

    def forward(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """See `generate`."""
        return self.generate(code, label)

    def _known(self, label: Tensor | None) -> Tensor:
        if label is None:
            raise UserError("label: this pair is conditional; give a class for each image.")
        return label


def halvings(image_size: tuple[int, int], smallest: int = 4) -> int:
    """How often both sides can be halved without becoming less than ``smallest``.

    >>> halvings((28, 28)), halvings((32, 32)), halvings((64, 64))
    (2, 3, 4)
    """
    count = 0
    height, width = image_size
    while height % 2 == width % 2 == 0 and min(height, width) // 2 >= smallest:
        height, width, count = height // 2, width // 2, count + 1
    if count == 0:
        raise UserError(
            f"image_size: need sides that can be halved to {smallest} pixels or more, such as 28, 32 or 64, got "
            f"{list(image_size)}."
        )
    return count
