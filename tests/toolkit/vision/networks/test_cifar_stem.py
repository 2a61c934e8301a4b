import pytest
import torch

from toolkit.errors import UserError
from toolkit.vision.networks.cifar_stem import CIFARStem


def test_resolution_and_gradients() -> None:
    net = CIFARStem(num_classes=4, in_channels=1)
    seen: list[torch.Size] = []
    layers = [net.backbone.get_submodule(f"layer{i}") for i in range(1, 5)]
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(torch.rand(2, 1, 32, 32)).sum().backward()
    assert [shape[2] for shape in seen] == [32, 16, 8, 4]
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="changes the stem of a ResNet, got 'vgg11'"):
        CIFARStem(num_classes=4, name="vgg11")
