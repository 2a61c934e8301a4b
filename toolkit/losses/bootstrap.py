"""The regression of one view's projection on the other's. N: samples, D: width of a projection."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bootstrap_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, ``2 - 2 cos``, of each sample.

    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, eq. 2. No gradient flows into the target.

    Args:
        prediction: ``(N, D)``, of any length.
        target: ``(N, D)``, likewise.

    Returns:
        ``(N,)``, in ``[0, 4]``, at least float32.

    >>> bootstrap_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])).item()
    2.0
    """
    kind = torch.promote_types(prediction.dtype, torch.float32)
    cosine = F.cosine_similarity(prediction.to(kind), target.detach().to(kind), dim=1)
    return 2 - 2 * cosine
