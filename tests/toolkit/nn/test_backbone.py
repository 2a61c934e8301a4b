"""A network's stages, and learning rates by stage."""

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters, stages_of
from toolkit.nn.layer_decay import parameter_groups, scale_learning_rates
from toolkit.nn.vit import ViT
from toolkit.vision.networks.small_cnn import SmallCNN


def test_stages_of_image_networks_end_with_the_head_and_hold_every_parameter_once() -> None:
    vit = ViT(num_classes=3, in_channels=1, image_size=(8, 8), patch_size=4, dim=8, depth=3, heads=2)
    for net, least in ((vit, 5), (SmallCNN(in_channels=1, num_classes=3), 2)):
        parameters = stage_parameters(net)
        assert len(parameters) == len(stages_of(net)) >= least
        found = [id(parameter) for stage in parameters for parameter in stage]
        assert sorted(found) == sorted(map(id, net.parameters()))
        assert stages_of(net)[-1] == [net.head]


def test_groups_fall_by_stage_and_leave_out_what_is_frozen() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].requires_grad_(False)
    optimizer = torch.optim.SGD(parameter_groups(net, 0.5), lr=1.0, weight_decay=0.1)
    scale_learning_rates(optimizer, 0.5)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.25, 0.1),
        (0.25, 0.0),
        (1.0, 0.1),
        (1.0, 0.0),
    ]
    assert len(parameter_groups(net)) == 2
    for wrong in (0.0, 1.5):
        with pytest.raises(UserError, match="0 < layer_decay <= 1"):
            parameter_groups(net, wrong)
