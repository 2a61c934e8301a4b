import copy

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from callbacks.gradient_checkpointing import GradientCheckpointing
from toolkit.errors import UserError
from toolkit.nn.mlp import MLP
from toolkit.nn.resnet import CIFARResNet
from toolkit.nn.vit import ViT
from toolkit.vision.image_classification import ImageClassification


def task(net: nn.Module) -> ImageClassification:
    return ImageClassification(net, num_classes=3)


def transformer() -> ViT:
    return ViT(num_classes=3, in_channels=1, image_size=(8, 8), patch_size=4, dim=8, depth=3, heads=2, dropout=0.2)


def gradients(net: nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(1)
    net(torch.linspace(-1, 1, 128).view(2, 1, 8, 8)).square().sum().backward()
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def kept_bytes(net: nn.Module) -> int:
    """What a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(torch.zeros(64, 1, 8, 8))
    return sum(kept.values())


def test_same_gradients_with_dropout_and_less_kept() -> None:
    plain = transformer()
    saving = copy.deepcopy(plain)
    GradientCheckpointing().setup(Trainer(accelerator="cpu", logger=False), task(saving), "fit")
    for a, b in zip(gradients(plain), gradients(saving), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert saving.state_dict().keys() == plain.state_dict().keys()
    assert kept_bytes(saving) < kept_bytes(plain) / 2


def test_a_copy_computes_with_its_own_weights() -> None:
    net = transformer().eval()
    GradientCheckpointing().setup(Trainer(accelerator="cpu", logger=False), task(net), "fit")
    other = copy.deepcopy(net)
    nn.init.zeros_(net.blocks[0].mlp[0].weight)
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    assert not torch.equal(net(image), other(image))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (CIFARResNet(num_classes=3, in_channels=1), "is a BatchNorm, whose statistics would be updated twice"),
        (MLP(num_classes=3, in_channels=1, image_size=(8, 8)), "MLP has no repeated blocks"),
    ],
)
def test_what_cannot_be_done_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GradientCheckpointing().setup(Trainer(accelerator="cpu", logger=False), task(net), "fit")
