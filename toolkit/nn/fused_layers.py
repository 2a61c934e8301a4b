"""Small fully connected networks as one step of autograd. Shape legend: B samples, I and O a layer's widths."""

from collections.abc import Iterable, Sequence
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
    and names are those of ``nn.Sequential``, and so is what is computed, but for rounding; integers are read as floats.
    Where the layers are others, for inputs of other than two dimensions or no floats, and under autocast, it is a plain
    ``nn.Sequential``. There are no gradients of gradients, and no hooks of layers.

    Args:
        *layers: ``nn.Flatten`` if need be, then ``nn.Linear`` and activations.

    >>> FusedLayers(nn.Linear(3, 4), nn.Tanh())(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.flattens = bool(layers) and isinstance(layers[0], nn.Flatten)
        self.activations = _activations(layers[int(self.flattens) :])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, I)``, or what is flattened to it, to ``(B, O)``."""
        if self.activations is None or not self.is_fused(x):
            x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        return _run(x.flatten(1) if self.flattens else x, (self.activations,), self.weights_and_biases())[0]

    def is_fused(self, x: Tensor) -> bool:
        """Whether the gradient for an input is the one that is written out."""
        is_flat = x.dim() == 2 or self.flattens
        is_plain = not x.is_floating_point() or torch.is_autocast_enabled(x.device.type)
        return self.activations is not None and is_flat and not is_plain

    def weights_and_biases(self) -> list[Tensor]:
        """Of each linear layer in turn."""
        return [tensor for layer in self._modules.values() for tensor in _own(layer)]


def side_by_side(x: Tensor, *stacks: tuple[nn.Module, nn.Linear]) -> tuple[Tensor, ...]:
    """Several networks on the same samples, each some layers and a linear one, as one step where they can be fused.

    Args:
        x: ``(B, *)``.
        *stacks: Layers, and what stands behind them.

    Returns:
        ``(B, O)`` of each.

    >>> layers = FusedLayers(nn.Linear(3, 4), nn.ReLU())
    >>> heads = nn.Linear(4, 1), nn.Linear(4, 5)
    >>> [output.shape for output in side_by_side(torch.zeros(2, 3), (layers, heads[0]), (layers, heads[1]))]
    [torch.Size([2, 1]), torch.Size([2, 5])]
    """
    activations: list[tuple[Activation, ...]] = []
    parameters: list[Tensor] = []
    for layers, head in stacks:
        if not isinstance(layers, FusedLayers) or layers.activations is None or not layers.is_fused(x):
            return tuple(head(layers(x)) for layers, head in stacks)
        activations.append((*layers.activations, "none"))
        parameters += layers.weights_and_biases()
        parameters += _own(head)
    return _run(x if x.dim() == 2 else x.flatten(1), tuple(activations), parameters)


def _own(layer: nn.Module | None) -> Iterable[Tensor]:
    """A layer's weight and bias, without the detours of attributes, which take longer than a small layer."""
    return layer._parameters.values() if layer is not None else ()  # type: ignore[return-value]


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


def _run(
    x: Tensor, activations: tuple[tuple[Activation, ...], ...], parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Outputs of stacks of layers, whose weights and biases follow one another."""
    if torch.is_grad_enabled():
        outputs: tuple[Tensor, ...] = _Layers.apply(x, activations, *parameters)
        return outputs
    return tuple(stack[-1] for stack in _stacks(x, activations, parameters))


def _stacks(
    x: Tensor, activations: tuple[tuple[Activation, ...], ...], parameters: Sequence[Tensor]
) -> list[list[Tensor]]:
    """Of each stack the input and what each layer makes of it."""
    found, end = [], 0
    for stack in activations:
        begin, end = end, end + 2 * len(stack)
        found.append(_outputs(x, stack, parameters[begin:end]))
    return found


def _outputs(x: Tensor, activations: tuple[Activation, ...], parameters: Sequence[Tensor]) -> list[Tensor]:
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
    def forward(
        ctx: Any, x: Tensor, activations: tuple[tuple[Activation, ...], ...], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        stacks = _stacks(x, activations, parameters)
        ctx.activations = activations
        ctx.save_for_backward(*(output for stack in stacks for output in stack), *parameters[::2])
        return tuple(stack[-1] for stack in stacks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        layers = sum(map(len, ctx.activations))
        outputs, weights = iter(saved[:-layers]), iter(saved[-layers:])
        of_inputs: list[Tensor] = []
        of_parameters: list[Tensor] = []
        for activations, gradient in zip(ctx.activations, gradients, strict=True):
            of_input, of_stack = _gradients(
                gradient,
                activations,
                [next(outputs) for _ in range(len(activations) + 1)],
                [next(weights) for _ in activations],
                ctx.needs_input_grad[0],
            )
            of_inputs += [] if of_input is None else [of_input]
            of_parameters += of_stack
        return sum(of_inputs[1:], of_inputs[0]) if of_inputs else None, None, *of_parameters


def _gradients(
    gradient: Tensor,
    activations: tuple[Activation, ...],
    outputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs_input: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """From the gradient of a stack's output, ``(B, O)``, to that of its input and of its weights and biases in turn."""
    of_parameters: list[Tensor] = []
    for number in reversed(range(len(activations))):
        x, y = outputs[number], outputs[number + 1]
        if activations[number] == "tanh":
            gradient = torch.ops.aten.tanh_backward.default(gradient, y)
        elif activations[number] == "relu":
            gradient = torch.ops.aten.threshold_backward.default(gradient, y, 0)
        of_parameters += [gradient.sum(dim=0), _outer(gradient, x)]
        if number or needs_input:
            gradient = gradient @ weights[number]  # (B, I)
    return gradient if needs_input else None, of_parameters[::-1]


def _outer(gradient: Tensor, x: Tensor) -> Tensor:
    """``(B, O)`` and ``(B, I)`` to ``(O, I)``; with the narrow matrix on the right it takes four times as long.

    Contiguous, for torch's fused optimizers on CPUs read the memory of a gradient in order, whatever its strides.
    """
    return gradient.t() @ x if gradient.shape[1] <= x.shape[1] else (x.t() @ gradient).t().contiguous()
