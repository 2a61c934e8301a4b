"""One batch for all of these tests; its sides, channels and size differ, so that no two axes can be mistaken."""

import pytest
import torch
from torch import Tensor

from toolkit.keys import sample_keys


@pytest.fixture
def image() -> Tensor:
    """``(24, 3, 20, 14)``, uint8."""
    return torch.randint(256, (24, 3, 20, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def key() -> Tensor:
    """``(24,)``, int64."""
    return sample_keys(0, 0, torch.arange(24))


@pytest.fixture
def many() -> Tensor:
    """``(10_000,)``, int64: keys to take statistics of."""
    return sample_keys(1, 0, torch.arange(10_000))
