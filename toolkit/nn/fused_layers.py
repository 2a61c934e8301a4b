"""Small fully connected networks as one step of autograd. Shape legend: B samples, I and O a layer's widths."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Activation = Literal["tanh", "relu", "none"]
ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.Tanh: "tanh", nn.ReLU: "relu"}
LARGE = 4096
"""Elements from which on tanh is faster by way of the sigmoid."""


class FusedLayers(nn.Sequential):
    """Linear layers, each with tanh, ReLU or nothing behind it, whose gradient is written out.

    For a few hundred samples and 64 units, the bookkeeping of a graph costs as much as the numbers. Modules, weights
    and names are those of ``nn.Sequential``, and so is what is computed, but for rounding. Where the layers are others,
    for inputs of other than two dimensions, and under autocast, it is a plain ``nn.Sequential``. There are no gradients
    of gradients, and no hooks of layers.

    Args:
        *layers: ``nn.Flatten`` if need be, then ``nn.Linear`` and activations.

    >>> layers = FusedLayers(nn.Linear(3, 4), nn.Tanh())
    >>> layers(torch.zeros(2, 3)).shape, layers.and_then(nn.Linear(4, 1), torch.zeros(2, 3)).shape
    (torch.Size([2, 4]), torch.Size([2, 1]))
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.flattens = bool(layers) and isinstance(layers[0], nn.Flatten)
        self.activations = _activations(layers[int(self.flattens) :])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, *)`` to ``(B, O)``."""
        if not self._is_fused(x):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        return _run(x.flatten(1) if self.flattens else x, self.activations or (), self._parameters_in_order())

    def and_then(self, head: nn.Linear, x: Tensor) -> Tensor:
        """These layers and one more: ``head(self(x))``."""
        if not self._is_fused(x):
            more: Tensor = head(super().forward(x))  # type: ignore[no-untyped-call]
            return more
        parameters = [*self._parameters_in_order(), head.weight, head.bias]
        return _run(x.flatten(1) if self.flattens else x, (*(self.activations or ()), "none"), parameters)

    def _is_fused(self, x: Tensor) -> bool:
        is_flat = x.dim() == 2 or self.flattens
        return self.activations is not None and is_flat and not torch.is_autocast_enabled(x.device.type)

    def _parameters_in_order(self) -> list[Tensor]:
        return [p for layer in self._modules.values() if layer is not None for p in layer._parameters.values()]  # type: ignore[misc]


def _activations(layers: Sequence[nn.Module]) -> tuple[Activation, ...] | None:
    """What stands behind each linear layer; None where there is something else."""
    found: list[Activation] = []
    for before, layer in zip([None, *layers], layers, strict=False):
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            found.append("none")
        elif type(layer) in ACTIVATIONS and isinstance(before, nn.Linear):
            found[-1] = ACTIVATIONS[type(layer)]
        else:
            return None
    return tuple(found)


def _run(x: Tensor, activations: tuple[Activation, ...], parameters: Sequence[Tensor]) -> Tensor:
    if torch.is_grad_enabled():
        output: Tensor = _Layers.apply(x, activations, *parameters)
        return output
    return _outputs(x, activations, parameters)[-1]


def _outputs(x: Tensor, activations: tuple[Activation, ...], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The input and what each layer makes of it."""
    outputs = [x]
    for activation, weight, bias in zip(activations, parameters[::2], parameters[1::2], strict=True):
        if activation == "tanh" and x.device.type == "cpu" and x.shape[0] * weight.shape[0] >= LARGE:
            # tanh z = 2 sigmoid(2 z) - 1; on CPUs torch's tanh takes three times as long
            x = torch.addmm(bias, x, weight.t(), beta=2, alpha=2).sigmoid_().mul_(2).sub_(1)
        else:
            x = torch.addmm(bias, x, weight.t())
            x = x.tanh_() if activation == "tanh" else x.relu_() if activation == "relu" else x
        outputs.append(x)
    return outputs


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: tuple[Activation, ...], *parameters: Tensor) -> Tensor:
        outputs = _outputs(x, activations, parameters)
        ctx.activations = activations
        ctx.save_for_backward(*outputs, *parameters[::2])
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.activations)
        outputs, weights = ctx.saved_tensors[: count + 1], ctx.saved_tensors[count + 1 :]
        (gradient,) = gradients  # (B, O)
        of_parameters: list[Tensor] = []
        for number in reversed(range(count)):
            x, y = outputs[number : number + 2]
            if ctx.activations[number] == "tanh":
                gradient = torch.ops.aten.tanh_backward.default(gradient, y)
            elif ctx.activations[number] == "relu":
                gradient = torch.ops.aten.threshold_backward.default(gradient, y, 0)
            of_parameters += [gradient.sum(dim=0), _outer(gradient, x)]
            if number or ctx.needs_input_grad[0]:
                gradient = gradient @ weights[number]  # (B, I)
        return gradient if ctx.needs_input_grad[0] else None, None, *reversed(of_parameters)


def _outer(gradient: Tensor, x: Tensor) -> Tensor:
    """``(B, O)`` and ``(B, I)`` to ``(O, I)``; with the narrow matrix on the right it takes four times as long."""
    return gradient.t() @ x if gradient.shape[1] <= x.shape[1] else (x.t() @ gradient).t().contiguous()
