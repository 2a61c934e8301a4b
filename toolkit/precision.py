"""Which precision to compute in."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """float32 for half precisions, which are too coarse for exponentials and sums; float64 stays.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.to(wide_dtype(x.dtype))


def wide_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """In which to compute what half precision is too coarse for, in a model of ``dtype``: float64 or float32.

    >>> wide_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def float64(x: Tensor) -> Tensor:
    """In 64 bits; on the CPU if it lies on an Apple GPU, which has none.

    >>> float64(torch.zeros(1)).dtype
    torch.float64
    """
    return (x.cpu() if x.device.type == "mps" else x).double()
