"""Mixtures of two images and of their targets. Shape legend: B batch, C channels, H height, W width, K classes."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation.checks import check_positive, check_probability
from toolkit.nn.augmentation.draws import Rectangles, below, symmetric_beta

_STREAM = 1 << 20
"""Number of the random numbers' stream: the transforms of an `Augmentation` are numbered from 0."""


class Mixing(nn.Module, ABC):
    """Mix each sample with the one before it in the batch (the first with the last).

    How much is drawn for each sample by its key; the partner depends on the batch by nature.
    """

    @abstractmethod
    def forward(self, image: Tensor, target: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            image: ``(B, C, H, W)``, floating, normalised or not.
            target: ``(B, K)``, floating, one-hot or soft.
            key: ``(B,)``, int64, the samples' keys.

        Returns:
            Images and targets of the same shapes and dtypes; targets that summed to 1 still do.
        """


class Mixup(Mixing):
    """Weighted mean of two images and of their targets.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. Departure: the weight is drawn for each sample
    and not for the batch.

    Args:
        alpha: The weight is drawn from Beta(alpha, alpha); the larger, the closer to a half.
        p: Probability that a sample is mixed.

    Raises:
        UserError: No probability, or an alpha that is not above 0.
    """

    def __init__(self, alpha: float = 0.2, p: float = 1.0) -> None:
        super().__init__()
        check_positive("Mixup.alpha", alpha, 0.2)
        check_probability("Mixup.p", p)
        self.alpha = alpha
        self.p = p

    def make_params(self, u: Tensor) -> Tensor:
        """Weight of each sample's own image, ``(B,)``, from ``(B, 3)`` uniforms; 1 where it is not mixed."""
        return symmetric_beta(u[:, 1:], self.alpha).where(u[:, 0] < self.p, 1.0)

    def forward(self, image: Tensor, target: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        share = self.make_params(keyed_uniform(key, _STREAM, 3))
        weight = share.to(image.dtype)[:, None, None, None]
        return torch.lerp(image.roll(1, 0), image, weight), _mix_targets(target, share)


class CutMix(Mixing):
    """A rectangle of another image pasted in; targets mixed by the number of pixels.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    Departure: the rectangle is drawn for each sample and not for the batch. Its sides are those of the image times
    ``sqrt(1 - lambda)``, its centre is anywhere, and what lies outside is cut off.

    Args:
        alpha: Lambda is drawn from Beta(alpha, alpha).
        p: Probability that a sample is mixed.

    Raises:
        UserError: No probability, or an alpha that is not above 0.
    """

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        super().__init__()
        check_positive("CutMix.alpha", alpha, 1.0)
        check_probability("CutMix.p", p)
        self.alpha = alpha
        self.p = p

    def make_params(self, u: Tensor, image_size: tuple[int, int]) -> Rectangles:
        """The pasted rectangles, from ``(B, 5)`` uniforms; empty where a sample is not mixed."""
        own = symmetric_beta(u[:, 1:3], self.alpha).where(u[:, 0] < self.p, 1.0)  # lambda
        sides = []
        for i, n in enumerate(image_size):
            half = (0.5 * n * (1 - own).sqrt()).to(torch.int64)
            center = below(u[:, 3 + i], n)
            start, end = (center - half).clamp(min=0), (center + half).clamp(max=n)
            sides.append((start, end - start))
        (top, height), (left, width) = sides
        return Rectangles(top, left, height, width)

    def forward(self, image: Tensor, target: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        H, W = image.shape[2:]
        pasted = self.make_params(keyed_uniform(key, _STREAM, 5), (H, W))
        share = (H * W - pasted.height * pasted.width).to(torch.float32) / (H * W)  # (B,)
        return torch.where(pasted.contains(H, W), image.roll(1, 0), image), _mix_targets(target, share)


class MixupOrCutMix(Mixing):
    """Mixup for one half of the samples and CutMix for the other, drawn for each sample.

    The recipe of Touvron et al., "Training data-efficient image transformers", ICML 2021, table 9.

    Args:
        mixup_alpha: Alpha of `Mixup`.
        cutmix_alpha: Alpha of `CutMix`.
        p: Probability that a sample is mixed at all.

    Raises:
        UserError: No probability, or an alpha that is not above 0.
    """

    def __init__(self, mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, p: float = 1.0) -> None:
        super().__init__()
        self.mixup = Mixup(mixup_alpha, p)
        self.cutmix = CutMix(cutmix_alpha, p)

    def forward(self, image: Tensor, target: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        takes_mixup = keyed_uniform(key, _STREAM + 1)[:, 0] < 0.5  # (B,)
        mean_image, mean_target = self.mixup(image, target, key)
        cut_image, cut_target = self.cutmix(image, target, key)
        return (
            torch.where(takes_mixup[:, None, None, None], mean_image, cut_image),
            torch.where(takes_mixup[:, None], mean_target, cut_target),
        )


def _mix_targets(target: Tensor, share: Tensor) -> Tensor:
    """``share`` ``(B,)`` of each target and the rest of its partner's."""
    return torch.lerp(target.roll(1, 0), target, share.to(target.dtype)[:, None])
