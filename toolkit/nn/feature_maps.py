"""The maps inside a classifier's network, for tasks that answer for places of an image.

Shape legend: B batch, C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from toolkit.errors import UserError

PROBE = 128
"""Height and width of the image by which a network's maps are found."""


class FeatureMaps(nn.Module):
    """A network for images, cut behind its last map of features; gives its maps at the strides that were asked for.

    At each stride it is the last map of this size that the network computes, or what its own ``map_layers`` names. All
    that comes after the last map, such as the head, is taken out of the network.

    Args:
        net: A convolutional network with ``forward_features`` and ``in_channels``: `TorchvisionClassifier`,
            `EfficientNetLite`, `CIFARResNet`, `SmallCNN`, or one's own.
        strides: Of the maps, rising: at stride 8 a map has an eighth of the image's height and width.

    Raises:
        UserError: The network has no map of a stride, or computes most of what it computes without maps.

    >>> from toolkit.nn.resnet import CIFARResNet
    >>> maps = FeatureMaps(CIFARResNet(num_classes=1, in_channels=3, width=8), strides=[2, 4])
    >>> maps.widths, [tuple(m.shape) for m in maps(torch.zeros(1, 3, 32, 32))]
    ([16, 32], [(1, 16, 16, 16), (1, 32, 8, 8)])
    """

    def __init__(self, net: nn.Module, strides: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.strides = list(strides)
        if not strides or self.strides != sorted(set(strides)):
            raise UserError(f"strides: need rising numbers, such as [8, 16, 32], got {list(strides)}.")
        found = self._probe()
        missing = [stride for stride in strides if stride not in found]
        if missing:
            raise UserError(
                f"strides: {type(net).__name__} has no map at stride {', '.join(map(str, missing))}, only at "
                f"{', '.join(map(str, sorted(found))) or 'none'}; give strides of these, or another backbone."
            )
        self.names = [found[stride][0] for stride in strides]
        self.widths = [found[stride][1] for stride in strides]
        self._cut()

    def _probe(self) -> dict[int, tuple[str, int]]:
        """Name and width of the last layer with a map, by stride."""
        named = {module: name for name, module in self.net.named_modules() if name}
        computed: list[tuple[str, int, int]] = []  # name, stride and width, in the order of the computation

        def note(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
                stride, rest = divmod(PROBE, output.shape[2])
                if not rest:
                    computed.append((named[module], stride, output.shape[1]))

        self._run(list(named), note)
        own = getattr(self.net, "map_layers", None)
        if own is not None:
            chosen = {named[module] for module in own()}
            return {stride: (name, width) for name, stride, width in computed if name in chosen}
        # What a block computes on the way to a coarser map is its own affair.
        blocks = {
            name: stride for name, stride, _ in computed if type(self.net.get_submodule(name)) is not nn.Sequential
        }
        return {
            stride: (name, width)
            for name, stride, width in computed
            if not any(name.startswith(f"{block}.") and coarser > stride for block, coarser in blocks.items())
        }

    def _cut(self) -> None:
        """Take out the layers behind the last map: they would get no gradient."""
        last = self.net.get_submodule(self.names[-1])
        layers = {
            m: n for n, m in self.net.named_modules() if n and next(m.parameters(recurse=False), None) is not None
        }
        behind = dict(layers)
        passed = False

        def note(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal passed
            if not passed:
                behind.pop(module, None)
            passed = passed or module is last

        count = len(behind)
        self._run([*behind, last], note)
        if len(behind) > count / 2:
            raise UserError(
                f"strides: {type(self.net).__name__} has no map behind layer {self.names[-1]!r}, where most of its "
                "layers stand; use a convolutional network."
            )
        for name in behind.values():
            self.net.set_submodule(name, nn.Identity())

    @torch.no_grad()
    def _run(self, modules: Sequence[nn.Module], hook: Any) -> None:
        """The network's forward in evaluation on a black image, watched; its mode stays."""
        modes = {module: module.training for module in self.net.modules()}
        handles = [module.register_forward_hook(hook) for module in modules]
        try:
            self.net.eval()
            cast(Any, self.net).forward_features(torch.zeros(1, cast(Any, self.net).in_channels, PROBE, PROBE))
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode

    def forward(self, image: Tensor) -> list[Tensor]:
        """The maps of images ``(B, C, H, W)``: ``(B, widths[i], H / strides[i], W / strides[i])`` each."""
        found: dict[str, Tensor] = {}
        handles = []
        for name in self.names:

            def keep(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
                found[name] = output

            handles.append(self.net.get_submodule(name).register_forward_hook(keep))
        try:
            cast(Any, self.net).forward_features(image)
        finally:
            for handle in handles:
                handle.remove()
        return [found[name] for name in self.names]
