"""The contrastive loss of two views. N: samples, D: width of a projection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.errors import UserError


def nt_xent_loss(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised, temperature-scaled cross entropy: which of the other 2N - 1 views is of the same sample?

    Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
    2020, eq. 1, averaged over all 2N views; similarity is the cosine. The loss depends on the whole batch.

    Args:
        first: ``(N, D)``, projections of one view of each sample; their length does not matter.
        second: ``(N, D)``, those of the other.
        temperature: By which cosines are divided, above 0.

    Returns:
        Scalar, at least float32.

    Raises:
        UserError: Fewer than two samples, of which none would be a negative; different shapes; a temperature that is
            not above 0.

    >>> z = torch.eye(2)
    >>> round(nt_xent_loss(z, z, temperature=1.0).item(), 4)  # -log(e / (e + 1 + 1))
    0.5514
    """
    check_views("nt_xent_loss", first, second)
    if temperature <= 0:
        raise UserError(f"temperature: need a number above 0, got {temperature}; such as 0.5.")
    z = F.normalize(torch.cat([first, second]).to(torch.promote_types(first.dtype, torch.float32)), dim=1)  # (2N, D)
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ z.T / temperature  # (2N, 2N)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(first))  # (2N,)
    return F.cross_entropy(similarity.masked_fill(itself, float("-inf")), partner)


def check_views(name: str, first: Tensor, second: Tensor) -> None:
    """Refuse what is not two views of at least two samples."""
    if first.shape != second.shape or first.ndim != 2:
        raise UserError(
            f"{name}: need two views of shape (N, D), got {tuple(first.shape)} and {tuple(second.shape)}; project each "
            "sample's two views by the same head."
        )
    if len(first) < 2:
        raise UserError(
            f"data.init_args.batch_size: {name} compares the samples of a batch, and got {len(first)}; write 2 or "
            "more, such as 256."
        )
