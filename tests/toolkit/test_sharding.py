import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.mlp import MLP
from toolkit.nn.resnet import CIFARResNet
from toolkit.nn.vit import Block, ViT
from toolkit.sharding import blocks, shard
from toolkit.vision.image_classification import ImageClassification


def test_blocks_of_a_transformer_are_its_layers() -> None:
    net = ViT(num_classes=3, in_channels=1, image_size=(8, 8), patch_size=4, dim=8, depth=3, heads=2)
    assert [type(block) for block in blocks(net)] == [Block] * 3


def test_blocks_of_a_resnet_are_its_residual_blocks() -> None:
    found = list(blocks(CIFARResNet(num_classes=3, in_channels=1)))
    assert len({type(block) for block in found}) == 1
    assert len(found) > 2
    inner = {id(part) for block in found for part in block.modules() if part is not block}
    assert not inner & {id(block) for block in found}  # none within another


def test_single_layers_are_no_blocks() -> None:
    assert not list(blocks(MLP(num_classes=3, in_channels=1, image_size=(4, 4))))
    assert not list(blocks(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))))


def test_a_parameter_of_the_task_itself_cannot_be_sharded() -> None:
    task = ImageClassification(nn.Linear(2, 2), num_classes=2)
    task.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(UserError, match="ImageClassification has the parameter 'temperature' outside of its networks"):
        shard(task, None)  # type: ignore[arg-type]  # it does not come to that
