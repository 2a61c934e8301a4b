"""What tasks on images of named classes share: what they know of the data, and how pixels reach the network."""

import math
from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch

from toolkit.errors import UserError
from toolkit.nn.lora import LoRA
from toolkit.nn.normalize import Normalize
from toolkit.nn.pretrained import PretrainedNetwork
from toolkit.task import Task


class ImageTask(Task, ABC):
    """A task on images; normalisation is part of the model, so that a checkpoint predicts on raw pixels."""

    input_kind = "image"

    def describe(
        self,
        num_classes: int,
        class_names: Sequence[str] | None,
        image_size: tuple[int, int] | None,
        pixel_mean: Sequence[float] | None,
        pixel_std: Sequence[float] | None,
    ) -> None:
        """Note what the data is like, for the constructor.

        Args:
            num_classes: K.
            class_names: A name for each class; the numbers as text if None.
            image_size: ``(H, W)`` that `predict` resizes files for.
            pixel_mean: Mean of each channel in ``[0, 1]``; a pretrained network's own goes first; 0.5 if None.
            pixel_std: Standard deviation of each channel, likewise.
        """
        net = self.net
        if isinstance(net, PretrainedNetwork) and net.pixel_mean is not None:
            pixel_mean, pixel_std = net.pixel_mean, net.pixel_std
        self.num_classes = num_classes
        self.class_names = list(class_names or map(str, range(num_classes)))
        self.image_size = (image_size[0], image_size[1]) if image_size else None
        own = getattr(net, "in_channels", None)
        self.in_channels: int = own if isinstance(own, int) else len(pixel_mean or [0.5])
        self.normalize = Normalize(pixel_mean or [0.5], pixel_std or [0.5])

    def prepare_network(self, channels_last: bool, layer_decay: float, lora: LoRA | None) -> None:
        """Fine-tuning and memory format, likewise; see `Task.fine_tune`."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.fine_tune(layer_decay, lora)
        self.net.to(memory_format=self.memory_format)


def check_one_a_class(num_classes: int, **arguments: Sequence[Any] | None) -> None:
    """Refuse arguments, by their names, that do not count ``num_classes``; None will do.

    >>> check_one_a_class(2, class_names=["cat", "dog"], class_weights=None)
    """
    for name, values in arguments.items():
        if values is not None and len(values) != num_classes:
            raise UserError(f"model.init_args.{name}: need {num_classes} entries, one a class, got {len(values)}.")


def check_class_weights(num_classes: int, class_weights: Sequence[float] | None) -> None:
    """Refuse weights that are not one a class, that are negative or not finite, or all 0; None will do.

    >>> check_class_weights(2, [0.0, 1.0])
    """
    check_one_a_class(num_classes, class_weights=class_weights)
    if class_weights is None:
        return
    if not all(0 <= weight < math.inf for weight in class_weights) or not any(class_weights):
        raise UserError(
            f"model.init_args.class_weights: need numbers of 0 or more, one of them above 0, got {list(class_weights)}."
        )
