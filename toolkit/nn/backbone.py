"""What self-supervised learning, probes and transfer ask of a classifier's network: features before its head.

Shape legend: B batch, C channels, H height, W width, D width of the features.
"""

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
