"""Arrays in one .npz file, in the key layout of MedMNIST."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.image import ImageArrays, ImageDataModule, pixel_statistics
from datamodules.image_reader import existing
from datamodules.splits import stratified_split
from toolkit.errors import UserError
from toolkit.types import Stage

STAGES: tuple[Stage, ...] = ("train", "val", "test")


class NPZDataModule(ImageDataModule):
    """Images in one ``.npz`` file with the keys of MedMNIST (Yang et al., "MedMNIST v2", Scientific Data, 2023).

    ``train_images``, ``train_labels``, and where there are any ``val_...`` and ``test_...``: images ``(N, H, W)`` or
    ``(N, H, W, C)`` in uint8, labels ``(N,)`` or ``(N, 1)`` in 0..K-1. Without ``val_images``, validation is held out
    of the training part. Everything is read and checked at once: a mistake in the test part does not wait until the
    training is over.

    Args:
        path: The file.
        num_classes: K; by default as many as there are names, or one more than the largest training label.
        class_names: Their names; by default the numbers.
        val_size: Training images held out if the file has no ``val_images``: a count, or as float a share; stratified.
        split_seed: Which are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, other keys, shapes or dtypes, labels out of range, or one class only.
    """

    def __init__(
        self,
        path: str,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        val_size: int | float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path = existing(path, "data.init_args.path")
        parts = _read(self.path)
        k = num_classes or (len(class_names) if class_names else int(parts["train"].label.max()) + 1)
        _check_labels(self.path, parts, k)
        self.class_names = list(class_names or map(str, range(k)))
        if len(self.class_names) != k:
            raise UserError(f"data.init_args.class_names: need {k} names, one a class, got {len(self.class_names)}.")
        if "val" not in parts:
            kept, held_out = stratified_split(parts["train"].label, val_size, split_seed)
            parts |= {"train": parts["train"].subset(kept), "val": parts["train"].subset(held_out)}
        self._parts = parts
        self.in_channels = parts["train"].image.shape[1]
        self.image_size = (parts["train"].image.shape[2], parts["train"].image.shape[3])
        self.pixel_mean, self.pixel_std = pixel_statistics(parts["train"].image)

    def build(self, stage: Stage) -> ImageArrays:
        """A part of the file."""
        if stage not in self._parts:
            raise UserError(f"data: {str(self.path)!r} has no {stage}_images, so there is nothing to {stage} on.")
        return self._parts[stage]


def _read(path: Path) -> dict[Stage, ImageArrays]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"data.init_args.path: {str(path)!r} is no .npz of plain arrays ({error}); write one with numpy.savez."
        ) from error
    present: list[Stage] = [stage for stage in STAGES if f"{stage}_images" in arrays]
    if "train" not in present:
        raise UserError(
            f"data.init_args.path: {str(path)!r} must have the keys train_images and train_labels, and where there are "
            f"any val_images, val_labels, test_images, test_labels; it has {', '.join(sorted(arrays)) or 'none'}."
        )
    parts = {stage: _part(path, arrays, stage) for stage in present}
    for stage, part in parts.items():
        if part.image.shape[1:] != parts["train"].image.shape[1:]:
            raise UserError(
                f"{path}: {stage}_images {arrays[f'{stage}_images'].shape} and train_images "
                f"{arrays['train_images'].shape} must agree in all but their number."
            )
    return parts


def _part(path: Path, arrays: Mapping[str, Any], stage: Stage) -> ImageArrays:
    image, label = arrays[f"{stage}_images"], arrays.get(f"{stage}_labels")
    if label is None:
        raise UserError(f"{path}: it has {stage}_images but no {stage}_labels.")
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or (image.ndim == 4 and image.shape[3] not in (1, 3)):
        raise UserError(
            f"{path}: {stage}_images must be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), "
            f"got {image.dtype} of shape {image.shape}."
        )
    if not np.issubdtype(label.dtype, np.integer) or label.shape not in ((len(image),), (len(image), 1)):
        raise UserError(
            f"{path}: {stage}_labels must be integers of shape ({len(image)},) or ({len(image)}, 1), one an image, "
            f"got {label.dtype} of shape {label.shape}."
        )
    if 0 in image.shape:
        raise UserError(f"{path}: {stage}_images is empty, of shape {image.shape}; write images, or leave the key out.")
    pixels = torch.from_numpy(image).reshape(*image.shape[:3], -1).permute(0, 3, 1, 2)
    return ImageArrays(pixels.contiguous(), torch.from_numpy(label.astype(np.int64).reshape(-1)))


def _check_labels(path: Path, parts: Mapping[Stage, ImageArrays], num_classes: int) -> None:
    for stage, part in parts.items():
        wrong = sorted(set(part.label[(part.label < 0) | (part.label >= num_classes)].tolist()))
        if wrong:
            raise UserError(
                f"{path}: {stage}_labels must lie in 0..{num_classes - 1}, it also has {wrong[:5]}; number the classes "
                "from 0, or write data.init_args.num_classes."
            )
    if len(set(parts["train"].label.tolist())) < 2:
        raise UserError(f"{path}: train_labels has one class only; classification needs two.")
