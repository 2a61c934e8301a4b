"""What the constructors refuse, and what they say then."""

from collections.abc import Callable

import pytest

from toolkit.errors import UserError
from toolkit.nn.augmentation import (
    ColorJitter,
    CutMix,
    GaussianBlur,
    Mixup,
    MixupOrCutMix,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
)

INF = float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomHorizontalFlip(1.1), r"RandomHorizontalFlip.p: need a probability in \[0, 1\], got 1.1; such"),
        (lambda: RandomVerticalFlip(-0.1), r"RandomVerticalFlip.p: need a probability in \[0, 1\], got -0.1; such"),
        (lambda: RandomGrayscale(2), r"RandomGrayscale.p: need a probability"),
        (lambda: RandomErasing(p=float("nan")), r"RandomErasing.p: need a probability in \[0, 1\], got nan"),
        (lambda: RandomErasing(scale=(0.3, 0.1)), r"RandomErasing.scale: need \[smallest, largest\] inside \[0, 1\]"),
        (lambda: RandomErasing(ratio=(0, 1)), r"RandomErasing.ratio: need .* inside \(0, inf\], got \[0, 1\]; such as"),
        (lambda: RandomErasing(value=255), r"RandomErasing.value: need numbers in \[0, 1\], .* got 255; such as 0.5"),
        (lambda: RandomErasing(value=[]), r"RandomErasing.value: need numbers in \[0, 1\], .* got \[\]"),
        (lambda: RandomCrop(0), r"RandomCrop.size: need at least 1 pixel, got 0; such as 32, or \[height, width\]"),
        (lambda: RandomCrop((8, -1)), r"RandomCrop.size: need at least 1 pixel, got \(8, -1\)"),
        (lambda: RandomCrop(padding=-4), r"RandomCrop.padding: need 0 or more pixels, got -4; such as 4"),
        (lambda: RandomResizedCrop(0), r"RandomResizedCrop.size: need at least 1 pixel, got 0"),
        (lambda: RandomResizedCrop(8, scale=(0, 1)), r"RandomResizedCrop.scale: need .* inside \(0, 1\], got \[0, 1\]"),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), r"RandomResizedCrop.ratio: need .* got \[2, 1\]"),
        (lambda: RandomAffine(200), r"RandomAffine.degrees: need .* inside \[-180, 180\], got \[-200, 200\]; such as"),
        (lambda: RandomAffine((1, 0)), r"RandomAffine.degrees: need .* got \[1, 0\]"),
        (lambda: RandomAffine(0, translate=(0.1, 2)), r"RandomAffine.translate: need .* inside \[0, 1\], got \[0, 2\]"),
        (lambda: RandomAffine(0, scale=(0, 1)), r"RandomAffine.scale: need .* inside \(0, inf\], got \[0, 1\]"),
        (lambda: RandomAffine(0, shear=90), r"RandomAffine.shear: need .* inside \[-89, 89\], got \[-90, 90\]"),
        (lambda: RandomAffine(0, shear=(0, 1, 2, 1)), r"RandomAffine.shear: need .* got \[2, 1\]"),
        (lambda: RandomAffine(0, fill=-1), r"RandomAffine.fill: need numbers in \[0, 1\], .* got -1"),
        (lambda: ColorJitter(brightness=-1), r"ColorJitter.brightness: need .* inside \[0, inf\], got \[2, 0\]"),
        (lambda: ColorJitter(contrast=(-1, 1)), r"ColorJitter.contrast: need .* got \[-1, 1\]; such as \[0.6, 1.4\]"),
        (lambda: ColorJitter(saturation=(2, 1)), r"ColorJitter.saturation: need .* got \[2, 1\]"),
        (lambda: ColorJitter(hue=0.6), r"ColorJitter.hue: need .* inside \[-0.5, 0.5\], got \[-0.6, 0.6\]"),
        (lambda: GaussianBlur(4), r"GaussianBlur.kernel_size: need an odd number above 0, got 4; such as 3"),
        (lambda: GaussianBlur(-1), r"GaussianBlur.kernel_size: need an odd number above 0, got -1"),
        (lambda: GaussianBlur(3, 0), r"GaussianBlur.sigma: need .* inside \(0, inf\], got \[0, 0\]"),
        (lambda: Mixup(0), r"Mixup.alpha: need a number above 0, got 0; such as 0.2"),
        (lambda: Mixup(p=2), r"Mixup.p: need a probability"),
        (lambda: CutMix(-1), r"CutMix.alpha: need a number above 0, got -1; such as 1.0"),
        (lambda: CutMix(p=2), r"CutMix.p: need a probability"),
        (lambda: MixupOrCutMix(mixup_alpha=0), r"Mixup.alpha: need a number above 0"),
        (lambda: MixupOrCutMix(cutmix_alpha=0), r"CutMix.alpha: need a number above 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
