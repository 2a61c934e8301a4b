"""Apple's GPUs have no float64: nothing of it may lie on one. Shapes alone are computed; none of these is needed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toolkit.language.networks.translation_transformer import sinusoids
from toolkit.language.text_generator import Sampling


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "mps" and tensor.dtype == torch.float64:
                raise TypeError("MPS has no float64")
        return made


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: sinusoids(3, 4, 8, x),
        lambda x: Sampling(0.5, top_k=3, top_p=0.5).draw(x, torch.rand(2, device="mps")),
        lambda x: Sampling(0).draw(x, torch.rand(2, device="mps")),
    ],
    ids=["positions", "drawing", "greedy"],
)
def test_nothing_has_64_bits(compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with FakeTensorMode(), NoFloat64():
        x = torch.rand(2, 5, device="mps")
        assert compute(x).device == x.device
