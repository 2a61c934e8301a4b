"""Augmentation of batches on the device, for each sample by its own key."""

from toolkit.nn.augmentation.affine import RandomAffine
from toolkit.nn.augmentation.apply import RandomApply
from toolkit.nn.augmentation.base import Augmentation, PixelTransform, Transform, to_float
from toolkit.nn.augmentation.blur import GaussianBlur
from toolkit.nn.augmentation.box_flip import HorizontalBoxFlip, VerticalBoxFlip
from toolkit.nn.augmentation.box_zoom import RandomZoom
from toolkit.nn.augmentation.boxes import BoxTransform, DetectionAugmentation
from toolkit.nn.augmentation.color import ColorJitter, RandomGrayscale
from toolkit.nn.augmentation.crop import RandomCrop, RandomResizedCrop
from toolkit.nn.augmentation.erasing import RandomErasing
from toolkit.nn.augmentation.flip import RandomHorizontalFlip, RandomVerticalFlip
from toolkit.nn.augmentation.mixing import CutMix, Mixing, Mixup, MixupOrCutMix

__all__ = [
    "Augmentation",
    "BoxTransform",
    "ColorJitter",
    "CutMix",
    "DetectionAugmentation",
    "GaussianBlur",
    "HorizontalBoxFlip",
    "Mixing",
    "Mixup",
    "MixupOrCutMix",
    "PixelTransform",
    "RandomAffine",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "RandomZoom",
    "Transform",
    "VerticalBoxFlip",
    "to_float",
]
