"""A batch that several ranks hold parts of, brought together so that gradients flow back to each part."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor


def gathered(task: LightningModule, part: Tensor) -> Tensor:
    """All ranks' samples, in the order of the ranks; the parts may differ in length.

    The gradient of a part is the sum over ranks of what their losses say about it. If every rank computes the same loss
    of all samples, averaging the ranks' parameter gradients, as DDP does, then gives the gradient of that loss.

    Args:
        task: In a Trainer, whose strategy gathers; without one there is one rank.
        part: ``(B, ...)``, this rank's.

    Returns:
        ``(N, ...)``, N being the sum of the ranks' B.
    """
    if task._trainer is None or task.trainer.world_size == 1:
        return part
    lengths = task.all_gather(torch.tensor(len(part), device=part.device))
    assert isinstance(lengths, Tensor)
    longest = int(lengths.max())
    padding = [0, 0] * (part.ndim - 1) + [0, longest - len(part)]
    together = task.all_gather(F.pad(part, padding), sync_grads=True)  # (ranks, longest, ...)
    assert isinstance(together, Tensor)
    return torch.cat([rank[:length] for rank, length in zip(together, lengths.tolist(), strict=True)])
