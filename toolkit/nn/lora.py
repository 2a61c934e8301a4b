"""Low-rank adapters, by the package ``peft``."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torchvision.models.swin_transformer import ShiftedWindowAttention

from toolkit.errors import UserError
from toolkit.nn.backbone import stages_of
from toolkit.nn.frozen import frozen_parts

NEVER_CALLED = (nn.MultiheadAttention, nn.TransformerEncoderLayer, ShiftedWindowAttention)
"""Modules that compute with the weights of the linear layers in them: an adapter of these would do nothing."""


@dataclass(frozen=True)
class LoRA:
    """Train a product of two narrow matrices beside each of some weights, and nothing else of a network.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The second matrix begins at zero, so the
    network begins as it was. Beside a convolution the first one is a convolution of the same kernel to ``rank``
    channels, the second one of kernel 1.

    Args:
        rank: Width between the two matrices.
        alpha: The product is scaled by ``alpha / rank``; twice the rank if None.
        dropout: Probability on the input of the first matrix.
        targets: Ends of the names of the layers that get one, such as "query"; all if None. Left out are convolutions
            in groups (a depthwise filter is as small as its adapter would be) and layers that are never called.

    Raises:
        UserError: A number is out of its range.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    targets: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check."""
        if self.rank < 1 or (self.alpha is not None and self.alpha <= 0) or not 0 <= self.dropout < 1:
            raise UserError(
                f"LoRA: need rank >= 1, alpha > 0 and 0 <= dropout < 1, got {self.rank}, {self.alpha}, {self.dropout}."
            )


def adapt(net: nn.Module, lora: LoRA) -> None:
    """Put adapters into all stages of a network but the last, the head, which is trained whole; in place.

    All else is frozen, and BatchNorm comes in evaluation mode.

    Raises:
        UserError: The package is missing, no layer has one of the names, or the network has no stage but its head.
    """
    stages = stages_of(net)
    if len(stages) < 2:
        raise UserError(
            f"lora: {type(net).__name__} has no stage below its head that could get adapters; leave it out."
        )
    *below, head = stages
    whole = {id(parameter) for part in head for parameter in part.parameters()}
    inside = {id(module) for stage in below for part in stage for module in part.modules()}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) in whole)
    add_adapters(net, lora, inside)
    for part in frozen_parts(net):
        part.eval()


def add_adapters(network: nn.Module, lora: LoRA, inside: set[int] | None = None) -> None:
    """Put adapters beside the weights of a network, in place, and freeze all else in it.

    Names of adapted weights change: ``query.weight`` becomes ``query.base_layer.weight``.

    Args:
        network: All of it is frozen if ``inside`` is None; else the caller has frozen what he wants.
        lora: Rank, and which layers.
        inside: ``id`` of the modules that may get one; all if None.

    Raises:
        UserError: The package is missing, the network has adapters, or no layer of the names can have one.
    """
    peft = _library()
    if any(isinstance(module, _layer_class()) for module in network.modules()):
        raise UserError("lora: this network has adapters already; build it anew, or merge them by merge_adapters.")
    refused = dict(_refused(network))
    layers = {
        name: module
        for name, module in network.named_modules()
        if (is_linear(module) or _is_convolution(module)) and (inside is None or id(module) in inside)
    }
    named = [name for name in layers if lora.targets is None or name.endswith(tuple(lora.targets))]
    targets = [name for name in named if name not in refused]
    if not targets and named:
        raise UserError(f"LoRA.targets: {named[0]} cannot have an adapter: {refused[named[0]]}; name other layers.")
    if not targets:
        ends = sorted({name.rpartition(".")[2] for name in layers.keys() - refused.keys()})
        raise UserError(
            f"LoRA.targets: no linear layer's or convolution's name ends in {list(lora.targets or [])}; there are "
            f"{', '.join(ends) or 'none that could have an adapter'}."
        )
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    exactly = "|".join(map(re.escape, targets))  # of a list, peft would take all names that end alike
    options = {"r": lora.rank, "lora_alpha": alpha, "lora_dropout": lora.dropout, "target_modules": exactly}
    transposed = any(type(module).__name__ == "Conv1D" for module in network.modules())  # GPT-2's linear layers
    peft.inject_adapter_in_model(peft.LoraConfig(**options, fan_in_fan_out=transposed), network)
    if inside is not None:  # peft has frozen all but the adapters
        for parameter in trainable:
            parameter.requires_grad_(True)


def merge_adapters(network: nn.Module) -> int:
    """Add the adapters' products to the weights and take the adapters out, in place: the network of before, trained.

    Returns:
        How many there were.
    """
    layer_class = _layer_class()
    adapted = [(name, module) for name, module in network.named_modules() if isinstance(module, layer_class)]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        network.set_submodule(name, layer.get_base_layer())
    return len(adapted)


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, torch's or GPT-2's."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _refused(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers beside which an adapter would do nothing, harm or not fit, and why."""
    every = [module for _, module in network.named_modules(remove_duplicate=False)]
    uses = Counter(id(m.weight) for m in every if isinstance(getattr(m, "weight", None), nn.Parameter))
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, NEVER_CALLED):
            for inner, _ in module.named_modules():
                yield f"{prefix}{inner}", f"{type(module).__name__} takes its weights and never calls it"
        elif hasattr(module, "weight_g") or hasattr(module, "weight_orig"):
            yield name, "its weight is computed from others"
        elif uses.get(id(getattr(module, "weight", None)), 0) > 1:
            yield name, "its weight is another layer's, too"
        elif isinstance(module, nn.Conv3d) and module.kernel_size[:2] == (1, 1) and module.kernel_size[2] > 1:
            yield name, "peft cannot merge its kernel"
        elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            if module.groups > 1:
                # A depthwise filter has as many weights as a rank-1 adapter of it would; peft cannot merge it either.
                yield name, f"its {module.groups} groups are small already, and a product would not merge into them"
            elif set(module.dilation) != {1} or module.padding_mode != "zeros":
                yield name, "peft would leave out its dilation or its padding mode"
        elif isinstance(module, ParametrizationList):
            yield name.rpartition(".parametrizations")[0], "its weight is computed from others"


def _layer_class() -> type:
    _library()
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer: type = BaseTunerLayer
    return layer


def _library() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "LoRA needs the package peft, which is not installed; write python -m pip install "
            '"fulgurite[transfer]", or leave lora out.'
        ) from error
    return peft
