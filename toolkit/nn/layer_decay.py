"""Learning rates that fall from a network's head to its input."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters

SCALE = "lr_scale"
"""Key of a group: by what the optimizer's learning rate is multiplied for it."""


def check_layer_decay(layer_decay: float) -> None:
    """Refuse what is no share.

    Raises:
        UserError: It is out of its range.
    """
    if not 0 < layer_decay <= 1:
        raise UserError(f"model.init_args.layer_decay: need 0 < layer_decay <= 1, got {layer_decay}.")


def parameter_groups(
    net: nn.Module, layer_decay: float = 1.0, others: Sequence[nn.Parameter] = (), decay_vectors: bool = False
) -> list[dict[str, Any]]:
    """The trainable parameters by stage, for an optimizer.

    Discriminative fine-tuning (Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
    2018, section 3.2): the n-th stage from the head has ``layer_decay ** n`` times the learning rate.

    Args:
        net: The network, whose stages `toolkit.nn.backbone.stages_of` knows.
        layer_decay: In ``(0, 1]``; 1: the same everywhere.
        others: Parameters beside the network, such as a loss's; they learn like the head.
        decay_vectors: Whether weights of one dimension (biases, gains) decay like all; else each stage has two groups.

    Raises:
        UserError: It is out of its range.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    >>> [(group["lr_scale"], group.get("weight_decay")) for group in parameter_groups(net, 0.5)]
    [(0.5, None), (0.5, 0.0), (1.0, None)]
    """
    check_layer_decay(layer_decay)
    stages = [list(net.parameters())] if layer_decay == 1 else stage_parameters(net)
    stages[-1] = [*stages[-1], *others]
    groups: list[dict[str, Any]] = []
    for place, stage in enumerate(stages):
        scale = {SCALE: layer_decay ** (len(stages) - 1 - place)}
        vectors = [] if decay_vectors else [p for p in stage if p.ndim < 2]
        apart = set(map(id, vectors))
        groups.append({"params": [p for p in stage if p.requires_grad and id(p) not in apart], **scale})
        groups.append({"params": [p for p in vectors if p.requires_grad], "weight_decay": 0.0, **scale})
    return [group for group in groups if group["params"]]


def scale_learning_rates(optimizer: Optimizer, layer_decay: float) -> None:
    """Multiply the learning rate of each group by its scale, once, before there is a schedule.

    Raises:
        UserError: The optimizer has made groups of its own and lost the scales.
    """
    if layer_decay != 1 and not all(SCALE in group for group in optimizer.param_groups):
        raise UserError(
            f"model.init_args.layer_decay: {type(optimizer).__name__} makes parameter groups of its own, so its "
            "learning rates do not fall by stage; write layer_decay: 1, or another optimizer, such as AdamW."
        )
    for group in optimizer.param_groups:
        group["lr"] *= group.get(SCALE, 1.0)
