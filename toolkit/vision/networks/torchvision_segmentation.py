"""The segmentation networks of torchvision as they were published, with weights trained on COCO if asked for.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

import torchvision.models as tv
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.backbone import Staged, stages_of
from toolkit.nn.image_input import check_images
from toolkit.nn.pretrained import PretrainedNetwork, download_state_dict, pretrained_enabled, read_state_dict
from toolkit.nn.taken_weights import Transfer
from toolkit.vision.networks.torchvision_names import address, check_name, published


class TorchvisionSegmentation(PretrainedNetwork, Staged):
    """FCN, DeepLabV3 or LR-ASPP with the backbone, dilated, that its published weights have.

    Those weights were trained on COCO's images with PASCAL VOC's 21 classes. What answers for the classes is taken over
    where there are as many.

    Args:
        num_classes: K.
        in_channels: 3.
        name: One of ``torchvision.models.list_models(module=torchvision.models.segmentation)``.
        weights: A name such as "DEFAULT", downloaded once; or the path of a state dict of this architecture; None:
            random. A published file given by its path is known by its name, and sets ``pixel_mean`` and ``pixel_std``.

    Raises:
        UserError: Unknown name or weights, weights that cannot be had or do not fit, or channels other than 3.

    >>> import torch
    >>> net = TorchvisionSegmentation(num_classes=5, name="lraspp_mobilenet_v3_large").eval()
    >>> net(torch.zeros(1, 3, 32, 48)).shape
    torch.Size([1, 5, 32, 48])
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, name: str = "deeplabv3_resnet50", weights: str | None = None
    ) -> None:
        super().__init__()
        check_name(name, tv.segmentation, "segmentation network")
        if in_channels != 3:
            raise UserError(f"in_channels: {name} takes 3, the data has {in_channels}; set data.init_args.in_channels.")
        entry = published(name, weights)
        if entry is not None:
            preset = entry.transforms()
            self.pixel_mean, self.pixel_std = list(preset.mean), list(preset.std)
        self.name, self.weights, self.in_channels = name, weights, in_channels
        self.url = address(entry, weights)
        auxiliary = {} if name.startswith("lraspp") else {"aux_loss": True}
        self.model = tv.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **auxiliary)
        if weights is not None and pretrained_enabled():
            self.load_pretrained()

    def load_pretrained(self) -> None:
        """Fill the network from the weights' file or address; layers for another number of classes stay as they are.

        Raises:
            UserError: There is no such file, it does not fit the architecture, or the download failed.
        """
        assert self.weights is not None, "there are no weights to load"
        state = download_state_dict(self.url) if self.url else read_state_dict(self.weights)
        own = self.model.state_dict()
        answers = [n for n in own if "classifier" in n and n in state and state[n].shape[:1] != own[n].shape[:1]]
        if not any(name.startswith("aux_classifier") for name in state):  # as torchvision trains them by default
            answers += [name for name in own if name.startswith("aux_classifier")]
        state |= {name: own[name] for name in answers}
        try:
            self.model.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines()[1:4]]
            raise UserError(
                f"weights: {self.weights!r} does not fit {self.name}: {' '.join(lines) or error}; "
                "give a state dict of the same architecture."
            ) from error
        source = f"{self.weights} of {self.name}" if self.url else self.weights
        taken = [f"model.{name}" for name in state if name not in answers]
        self.transfer = Transfer(source, taken, skipped=[f"model.{name}" for name in answers])

    def stages(self) -> list[list[nn.Module]]:
        """Those of the backbone, then all that answers."""
        heads = [module for name, module in self.model.named_children() if name != "backbone"]
        return [*stages_of(self.model.backbone), heads]

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images ``(B, 3, H, W)``, float, normalised, to logits ``(B, K, H, W)``; in training also the auxiliary ones.

        Raises:
            UserError: Another number of channels.
        """
        check_images(image, self.in_channels)
        output: dict[str, Tensor] = self.model(image)
        return (output["out"], output["aux"]) if self.training and "aux" in output else output["out"]
