"""The Dice loss of labelled pixels.

Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation", 3DV
2016, section 3. Shape legend: B batch, H height, W width, K classes.
"""

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.types import IGNORE_LABEL


def dice_loss(probability: Tensor, label: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice coefficient of each image, the mean over the classes that its labels have.

    For a class it is ``1 - (2 sum p y + s) / (sum p + sum y + s)`` over the labelled pixels, with y 1 where the label
    is this class. Departures from the paper, which has one class and squares in the denominator: it is averaged over
    the classes of the image, for an absent class has nothing to overlap with; ``s`` softens it where a class has few
    pixels. An image's loss depends on no other, so that a mean over images is the same however they are batched.

    Args:
        probability: ``(B, K, H, W)``, floating, sums to 1 over K.
        label: ``(B, H, W)``, int64, class numbers; ``IGNORE_LABEL`` where a pixel counts nowhere.
        smooth: s, in pixels.

    Returns:
        ``(B,)``, in ``[0, 1)``; 0 for an image without a labelled pixel.

    Raises:
        UserError: Shapes that do not belong together.

    >>> label = torch.tensor([[[0, 1]]])
    >>> dice_loss(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]), label).tolist()
    [0.0]
    >>> round(dice_loss(torch.full((1, 2, 1, 2), 0.5), label, smooth=0.0).item(), 4)
    0.5
    """
    if probability.ndim != 4 or label.shape != (len(probability), *probability.shape[2:]):
        raise UserError(
            f"dice_loss: need probabilities (B, K, H, W) and labels (B, H, W), got {tuple(probability.shape)} and "
            f"{tuple(label.shape)}."
        )
    known = (label != IGNORE_LABEL).to(probability.dtype).flatten(1)  # (B, HW)
    p = probability.flatten(2) * known[:, None]  # (B, K, HW)
    true = label.clamp(min=0).flatten(1)  # (B, HW), any class where nothing is known
    # scatter_add adds one by one, which in float32 goes wrong from some 60,000 pixels on; MPS has no float64.
    exact = p.dtype if p.device.type == "mps" else torch.float64
    none = torch.zeros_like(p[..., 0], dtype=exact)
    overlap = none.scatter_add(1, true, p.gather(1, true[:, None])[:, 0].to(exact)).to(p.dtype)  # (B, K)
    pixels = none.scatter_add(1, true, known.to(exact)).to(p.dtype)  # (B, K)
    loss = 1 - (2 * overlap + smooth) / (p.sum(dim=2) + pixels + smooth).clamp(min=torch.finfo(p.dtype).tiny)
    present = pixels > 0
    return (loss * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


class DiceLoss(nn.Module):
    """See `dice_loss`; the mean over the images.

    Args:
        smooth: s, in pixels.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar, of logits ``(B, K, H, W)`` and labels ``(B, H, W)``."""
        return dice_loss(logits.softmax(dim=1), label, self.smooth).mean()
