"""Holding out a part of a data set."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.types import Stage

STAGE_OF_FOLDER: dict[str, Stage] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names of folders of splits, in lower case."""

Item = TypeVar("Item")


def hold_out(
    items: Sequence[Item], held_out: int | float, seed: int, label: Tensor | None = None
) -> tuple[list[Item], list[Item]]:
    """`stratified_split` of a list, but that a share of few is at least one of them: (kept, held out).

    Args:
        items: N of them.
        held_out: As there.
        seed: As there.
        label: ``(N,)``, int64; all of one class if None.

    >>> [len(part) for part in hold_out("abcdefghij", 0.2, seed=0)]
    [8, 2]
    """
    label = torch.zeros(len(items), dtype=torch.int64) if label is None else label
    if isinstance(held_out, float) and 0 < held_out * len(items) < 1 < len(items):
        held_out = 1
    kept, out = stratified_split(label, held_out, seed)
    return [items[i] for i in kept], [items[i] for i in out]


def stratified_split(label: Tensor, held_out: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split sample numbers in two so that every class has its share of both.

    Args:
        label: ``(N,)``, int64, class numbers.
        held_out: Samples in the second part: a count, or as float a share in ``[0, 1)``.
        seed: What is held out is a pure function of the labels and this number.

    Returns:
        (kept, held out): sample numbers, int64, ascending. The share of a class is rounded so that the counts add up,
        and at least one sample of each class is kept.

    Raises:
        UserError: A count or share that leaves nothing, or that is negative.

    >>> kept, held_out = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1]), held_out=3, seed=0)
    >>> len(kept), torch.tensor([0, 0, 0, 0, 1, 1])[held_out].tolist()
    (3, [0, 0, 1])
    """
    n = len(label)
    count = round(held_out * n) if isinstance(held_out, float) else held_out
    if not 0 <= count < n or (isinstance(held_out, float) and held_out >= 1):
        raise UserError(f"data: cannot hold out {held_out} of {n} samples; write a share in [0, 1) or a smaller count.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    order = order[label[order].argsort(stable=True)]  # shuffled within each class
    sizes = label.bincount()
    sizes = sizes[sizes > 0]
    shares = sizes * count / n
    taken = shares.floor().long()
    largest_remainders = (shares - taken).argsort(descending=True, stable=True)[: count - int(taken.sum())]
    taken[largest_remainders] += 1
    taken = torch.minimum(taken, sizes - 1)
    place = torch.cat([torch.arange(int(size)) for size in sizes])  # a sample's place within its class
    is_held_out = place < taken.repeat_interleave(sizes)
    return order[~is_held_out].sort().values, order[is_held_out].sort().values
