"""The reconstruction error of hidden patches. B batch, N patches, P values in a patch."""

import torch
from torch import Tensor


def masked_patch_loss(prediction: Tensor, patches: Tensor, hidden: Tensor, normalize: bool = True) -> Tensor:
    """Mean squared error of the hidden patches of each image; the visible ones count nowhere.

    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3 ("Reconstruction target").

    Args:
        prediction: ``(B, N, P)``.
        patches: ``(B, N, P)``, the image's own.
        hidden: ``(B, N)``, bool; at least one of each image.
        normalize: Compare with patches of mean 0 and variance 1, each by its own statistics.

    Returns:
        ``(B,)``, at least float32.

    >>> patches = torch.tensor([[[0.0, 2.0], [5.0, 5.0]]])
    >>> masked_patch_loss(torch.zeros(1, 2, 2), patches, torch.tensor([[True, False]]), normalize=False)
    tensor([2.])
    """
    kind = torch.promote_types(prediction.dtype, torch.float32)
    prediction, patches = prediction.to(kind), patches.to(kind)
    if normalize:
        mean, variance = patches.mean(dim=2, keepdim=True), patches.var(dim=2, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6).sqrt()
    error = (prediction - patches).square().mean(dim=2)  # (B, N)
    return (error * hidden).sum(dim=1) / hidden.sum(dim=1)
