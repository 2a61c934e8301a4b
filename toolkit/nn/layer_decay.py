"""Learning rates that fall from a network's head to its input."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters

SCALE = "lr_scale"
"""Key of a group: by what the optimizer's learning rate is multiplied for it."""


def parameter_groups(net: nn.Module, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """The trainable parameters by stage, matrices apart from vectors, which do not decay.

    Discriminative fine-tuning (Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
    2018, section 3.2): the n-th stage from the head has ``layer_decay ** n`` times the learning rate.

    Args:
        net: The network, whose stages `toolkit.nn.backbone.stages_of` knows.
        layer_decay: In ``(0, 1]``; 1: the same everywhere, and no more than two groups.

    Raises:
        UserError: It is out of its range.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    >>> [(group["lr_scale"], group.get("weight_decay")) for group in parameter_groups(net, 0.5)]
    [(0.5, None), (0.5, 0.0), (1.0, None)]
    """
    if not 0 < layer_decay <= 1:
        raise UserError(f"model.init_args.layer_decay: need 0 < layer_decay <= 1, got {layer_decay}.")
    stages = [list(net.parameters())] if layer_decay == 1 else stage_parameters(net)
    groups: list[dict[str, Any]] = []
    for place, stage in enumerate(stages):
        trainable = [parameter for parameter in stage if parameter.requires_grad]
        scale = {SCALE: layer_decay ** (len(stages) - 1 - place)}
        groups.append({"params": [p for p in trainable if p.ndim >= 2], **scale})
        groups.append({"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0, **scale})
    return [group for group in groups if group["params"]]


def scale_learning_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rate of each group by its scale, once, before there is a schedule."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get(SCALE, 1.0)
