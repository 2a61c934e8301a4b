"""A backbone taken over from a checkpoint into another task's network. P patches, D width of a token."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.checkpoint import find_checkpoint, read_checkpoint
from toolkit.errors import UserError
from toolkit.nn.taken_weights import Transfer
from toolkit.task import Task

HEAD = "head."
"""How the names of a classifier's last layer begin: it answers another question, and is never taken."""
ADAPTER = (".base_layer.", ".lora_")
"""What an adapted layer's names have between layer and weight: those of its own weights, and of the adapters."""
POSITIONS = "positions"
"""Name of a `ViT`'s learned positions, which can be resampled for images of another size."""


def take_backbone(task: Task, checkpoint: str | Path) -> Transfer:
    """Copy a trained backbone into a task's network, weights and buffers, by name and shape; the head stays as it is.

    The checkpoint may be any task's of this toolkit: a self-supervised one says where its backbone is, and of any other
    it is the network. A `ViT`'s positions are resampled for another image size (Dosovitskiy et al., "An Image is Worth
    16x16 Words", ICLR 2021, section 3.2). Adapters (`toolkit.nn.lora`) of the network stay as
    they are. Pixels are normalised as the backbone knows them: the checkpoint's statistics are taken, too. Tensors are
    read without pickle.

    Args:
        task: With the network.
        checkpoint: A run folder (its best checkpoint) or a checkpoint file.

    Raises:
        UserError: There is no such checkpoint, or some of the network's weights but the head's are not in it.
    """
    content = read_checkpoint(checkpoint)
    state: Mapping[str, Tensor] = content["state_dict"]
    prefix = content.get("backbone", "net.")
    theirs = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if any(ADAPTER[1] in name for name in theirs):
        raise UserError(
            f"checkpoint {str(checkpoint)!r}: it has adapters beside its weights; write python cli.py merge "
            f"{checkpoint}, and give the file that it makes."
        )
    transfer = Transfer(find_checkpoint(checkpoint))
    own = task.net.state_dict()
    new = {name: _fitting(name, theirs, value, transfer) for name, value in own.items()}
    missing = [text for text in transfer.skipped if not text.startswith(HEAD)]
    if missing or not transfer.taken:
        raise UserError(
            f"checkpoint {str(checkpoint)!r}: {len(missing)} of {len(own)} weights of this {type(task.net).__name__} "
            f"are not in its backbone: {'; '.join(missing[:3])}. Give model.init_args.net the arguments that it had in "
            f"that run, a {content.get('task', 'task')}."
        )
    task.net.load_state_dict(new)
    known = {name.replace(ADAPTER[0], ".") for name in own}
    transfer.unused = [name for name in theirs if name not in known and not name.startswith(HEAD)]
    _take_normalization(task, state, transfer)
    return transfer


def _fitting(name: str, theirs: Mapping[str, Tensor], own: Tensor, transfer: Transfer) -> Tensor:
    """The checkpoint's tensor, if it serves; else the network's own."""
    if ADAPTER[1] in name:
        return own
    if name.startswith(HEAD):
        transfer.skipped.append(name)
        return own
    before = name.replace(ADAPTER[0], ".")
    if before not in theirs:
        transfer.skipped.append(f"{name} (not there)")
        return own
    value = theirs[before]
    if value.shape == own.shape:
        transfer.taken.append(name)
        return value
    shapes = f"{tuple(value.shape)} -> {tuple(own.shape)}"
    if name.endswith(POSITIONS) and (resampled := resample_positions(value, own.shape[1])) is not None:
        transfer.reshaped.append(f"{name} {shapes}")
        return resampled
    transfer.skipped.append(f"{name} {shapes}")
    return own


def resample_positions(positions: Tensor, tokens: int) -> Tensor | None:
    """Positions of a square grid of patches, bicubically resampled for another one.

    Args:
        positions: ``(1, P, D)`` or, with that of the extra token first, ``(1, 1 + P, D)``; P a square number.
        tokens: P, or 1 + P, of the result.

    Returns:
        ``(1, tokens, D)``; None if the numbers are no squares.

    >>> resample_positions(torch.ones(1, 5, 3), 17).shape
    torch.Size([1, 17, 3])
    """
    for extra in (0, 1):
        before, after = (round(max(n - extra, 0) ** 0.5) for n in (positions.shape[1], tokens))
        if before**2 + extra == positions.shape[1] and after**2 + extra == tokens:
            grid = positions[:, extra:].reshape(1, before, before, -1).permute(0, 3, 1, 2)  # (1, D, before, before)
            grid = F.interpolate(grid, (after, after), mode="bicubic", antialias=True)
            return torch.cat([positions[:, :extra], grid.flatten(2).transpose(1, 2)], dim=1)
    return None


def _take_normalization(task: Task, state: Mapping[str, Tensor], transfer: Transfer) -> None:
    normalize = getattr(task, "normalize", None)
    if isinstance(normalize, nn.Module) and "normalize.mean" in state:
        for name, own in normalize.state_dict().items():
            if own.shape == state[f"normalize.{name}"].shape:
                own.copy_(state[f"normalize.{name}"])
                transfer.taken.append(f"normalize.{name}")
