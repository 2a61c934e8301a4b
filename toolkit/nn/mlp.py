"""Multilayer perceptron on flattened images: the network that knows nothing of pictures."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.nn.image_input import check_images


class MLP(nn.Module):
    """Fully connected layers with ReLU and dropout; without hidden layers it is multinomial logistic regression.

    Initialisation: He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10; the head's variance is ``1 / D``.

    Args:
        num_classes: K.
        in_channels: C.
        image_size: ``(H, W)``.
        hidden: Width of each hidden layer; empty for logistic regression.
        dropout: Probability that a hidden unit is dropped in training.

    >>> import torch
    >>> MLP(num_classes=10, in_channels=1, image_size=(28, 28))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        hidden: Sequence[int] = (512, 512),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.image_size = (image_size[0], image_size[1])
        widths = [in_channels * image_size[0] * image_size[1], *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module is self.head else "relu")
                nn.init.zeros_(module.bias)

    def forward_features(self, image: Tensor) -> Tensor:
        """The head's input.

        Args:
            image: ``(B, C, H, W)``, float, normalised.

        Returns:
            ``(B, D)``, the last hidden layer.

        Raises:
            UserError: Another number of channels or another size than the network was built for.
        """
        check_images(image, self.in_channels, self.image_size)
        features: Tensor = self.body(image.flatten(1))  # (B, C * H * W) -> (B, D)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, C, H, W)``."""
        logits: Tensor = self.head(self.forward_features(image))  # (B, K)
        return logits
