"""What self-supervised learning, probes and transfer ask of a classifier's network: features, head, stages.

Shape legend: B batch, C channels, H height, W width, D width of the features.
"""

from abc import ABC, abstractmethod
from typing import Any, cast

from torch import Tensor, nn

from toolkit.errors import UserError


def features_of(net: nn.Module, image: Tensor) -> Tensor:
    """The input of the network's head, ``(B, D)``, for images ``(B, C, H, W)``."""
    features: Tensor = cast(Any, net).forward_features(image)
    return features


def feature_width(net: nn.Module) -> int:
    """D.

    Raises:
        UserError: The network has no ``forward_features``, or its ``head`` is no linear layer.
    """
    head = getattr(net, "head", None)
    if not callable(getattr(net, "forward_features", None)) or not isinstance(head, nn.Linear):
        raise UserError(
            f"model.init_args.net: {type(net).__name__} has no forward_features followed by a linear layer named head; "
            "use one of the toolkit's networks, such as CIFARResNet, ViT or TorchvisionClassifier."
        )
    return head.in_features


def freeze_head(net: nn.Module) -> None:
    """Take the network's own head out of training: nothing that is learned without labels goes through it."""
    net.get_submodule("head").requires_grad_(False)


class Staged(ABC):
    """A network that says itself what its stages are; see `stages_of`."""

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """The modules of each stage, from the input to the head."""


def stages_of(net: nn.Module) -> list[list[nn.Module]]:
    """A network's parts from its input to its head, for thawing and for learning rates that fall towards the input.

    A network that is not `Staged` is cut into its children in their order, lists element by element; ``head`` is last.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)))
    >>> [[type(part).__name__ for part in stage] for stage in stages_of(net)]
    [['Linear'], ['Linear'], ['Linear']]
    """
    if isinstance(net, Staged):
        return net.stages()
    stages: list[list[nn.Module]] = []
    for _, child in sorted(net.named_children(), key=lambda named: named[0] == "head"):
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            stages += stages_of(child)
        elif next(child.parameters(), None) is not None:
            stages.append([child])
    return stages


def stage_parameters(net: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each stage, each once; those that belong to no stage are the first one's, next to the input."""
    seen: set[int] = set()
    stages: list[list[nn.Parameter]] = []
    for stage in stages_of(net):
        own = {id(p): p for part in stage for p in part.parameters() if id(p) not in seen}
        seen |= own.keys()
        stages.append(list(own.values()))
    rest = [parameter for parameter in net.parameters() if id(parameter) not in seen]
    return [rest + stages[0], *stages[1:]] if stages else [rest]
