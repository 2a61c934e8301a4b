"""Low-rank adapters, by the package ``peft``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from toolkit.errors import UserError


@dataclass(frozen=True)
class LoRA:
    """Train a product of two narrow matrices beside each of some weights, and nothing else of a network.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The second matrix begins at zero, so the
    network begins as it was.

    Args:
        rank: Width between the two matrices.
        alpha: The product is scaled by ``alpha / rank``; twice the rank if None.
        dropout: Probability on the input of the first matrix.
        targets: Ends of the names of the layers that get one, such as "query"; all linear layers if None.

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


def add_adapters(network: nn.Module, lora: LoRA) -> None:
    """Put adapters beside the weights of a network, in place, and freeze all else in it.

    Names of adapted weights change: ``query.weight`` becomes ``query.base_layer.weight``. A layer that is to be trained
    whole, such as a head, is not part of ``network``.

    Raises:
        UserError: The package is missing, or no layer has one of the names.
    """
    peft = _library()
    linear = [name for name, module in network.named_modules() if _is_linear(module)]
    targets = [name for name in linear if lora.targets is None or name.endswith(tuple(lora.targets))]
    if not targets:
        raise UserError(
            f"LoRA.targets: no linear layer's name ends in {list(lora.targets or [])}; there are "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in linear}))}."
        )
    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    options = {"r": lora.rank, "lora_alpha": alpha, "lora_dropout": lora.dropout, "target_modules": targets}
    transposed = any(type(module).__name__ == "Conv1D" for module in network.modules())  # GPT-2's linear layers
    peft.inject_adapter_in_model(peft.LoraConfig(**options, fan_in_fan_out=transposed), network)


def merge_adapters(network: nn.Module) -> None:
    """Add the adapters' products to the weights and take the adapters out, in place: the network of before, trained."""
    layer_class = _layer_class()
    adapted = [(name, module) for name, module in network.named_modules() if isinstance(module, layer_class)]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        network.set_submodule(name, layer.get_base_layer())


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


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
            '"fulgurite[language]", or leave lora out.'
        ) from error
    return peft
