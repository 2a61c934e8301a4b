"""Scenes composed of scikit-learn's handwritten digits, with exact boxes and masks: nothing to download.

Shape legend: H height, W width, M digits of a scene, h and w of one digit.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.digits import DigitsDataModule
from toolkit.errors import UserError
from toolkit.types import Stage

STAGES: tuple[Stage, ...] = ("train", "val", "test")

TRIES = 20
"""Places tried for a digit before it is left out."""
OVERLAP = 0.1
"""Largest part of the smaller of two boxes that the other may cover; ink never covers ink."""
CONTRAST = 70.0
"""Least distance in brightness, of 255, between a digit and the mean of its background."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Brightness of red, green and blue (ITU-R 601)."""


class Scene(NamedTuple):
    """An image, where its digits are, and what each pixel shows."""

    image: Tensor
    """``(3, H, W)``, uint8."""
    box: Tensor
    """``(M, 4)``, float32, (left, top, right, bottom) in pixels, the smallest that holds all ink of a digit."""
    label: Tensor
    """``(M,)``, int64, which digit, 0..9."""
    mask: Tensor
    """``(H, W)``, int64: 0 for the background, d + 1 for the ink of the digit d."""


class DigitScenes:
    """Coloured digits of several sizes before a smooth, noisy background; a pure function of (stage, seed, index).

    The digits of the three stages are disjoint, those of `datamodules.digits.DigitsDataModule`. Each is enlarged
    bicubically by its own factor and placed where its box overlaps others at most slightly; one that finds no place is
    left out, so that a scene may have fewer digits than were drawn, but none only if none were.

    Args:
        stage: Of which split the digits are.
        image_size: ``(H, W)``.
        digits: Fewest and most digits of a scene.
        scale: Smallest and largest factor by which a digit of 8x8 pixels is enlarged.
        seed: What is drawn.
        split_seed: Which digits are held out.

    Raises:
        UserError: A range that makes no sense, or digits larger than the image.

    >>> scene = DigitScenes("val")(5)
    >>> scene.image.shape, len(scene.box) == len(scene.label)
    (torch.Size([3, 96, 96]), True)
    """

    def __init__(
        self,
        stage: Stage,
        image_size: tuple[int, int] = (96, 96),
        digits: tuple[int, int] = (1, 6),
        scale: tuple[float, float] = (2.0, 4.0),
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        if not (0 <= digits[0] <= digits[1] and digits[1] >= 1):
            raise UserError(
                f"data.init_args.digits: need 0 <= fewest <= most and 1 <= most, got {list(digits)}; such as [1, 6]."
            )
        if not 1 <= scale[0] <= scale[1]:
            raise UserError(f"data.init_args.scale: need [least, most] from 1 up, got {list(scale)}; such as [2, 4].")
        # 10 pixels: a digit with a pixel of background around it, so that its strokes end as softly as they run.
        self._sides = range(round(10 * scale[0]), round(10 * scale[1]) + 1)
        if self._sides[-1] > min(image_size):
            raise UserError(
                f"data.init_args.image_size: {list(image_size)} is too small for digits enlarged by {scale[1]}; write "
                f"at least {self._sides[-1]} pixels or a smaller data.init_args.scale."
            )
        self.image_size = image_size
        self.digits = digits
        self._entropy = (seed, STAGES.index(stage))
        split = DigitsDataModule(split_seed).build(stage)
        self._ink = np.pad(split.image[:, 0].numpy().astype(np.float32) / 255, ((0, 0), (1, 1), (1, 1)))  # (N, 10, 10)
        self._label = split.label.numpy()
        self._enlarge = {side: _enlargement(10, side) for side in self._sides}
        self._rows, self._columns = (_enlargement(4, side) for side in image_size)

    def __call__(self, index: int) -> Scene:
        """The scene of a number, from 0 up."""
        draw = np.random.default_rng((*self._entropy, index))
        H, W = self.image_size
        base = draw.uniform(0, 255, 3)
        image = self._background(draw, base)  # (H, W, 3)
        mask = np.zeros((H, W), dtype=np.int64)
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for _ in range(draw.integers(self.digits[0], self.digits[1], endpoint=True)):
            number, side = draw.integers(len(self._ink)), int(draw.integers(self._sides[0], self._sides[-1] + 1))
            alpha = _alpha(self._ink[number], self._enlarge[side])  # (h, w)
            color = _color(draw, float(base @ LUMA))
            place = _place(draw, mask, alpha >= 0.5, boxes)
            if place is not None:
                top, left = place
                h, w = alpha.shape
                window = image[top : top + h, left : left + w]
                window += alpha[:, :, None] * (color - window)
                mask[top : top + h, left : left + w][alpha >= 0.5] = self._label[number] + 1
                boxes.append((left, top, left + w, top + h))
                labels.append(int(self._label[number]))
        image += float(draw.uniform(0, 0.15)) * draw.integers(-128, 128, (H, W, 1), dtype=np.int8)  # noise
        pixels = torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()
        box = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return Scene(pixels, box, torch.tensor(labels, dtype=torch.int64), torch.from_numpy(mask))

    def _background(self, draw: np.random.Generator, base: np.ndarray) -> np.ndarray:
        """Colours that change slowly around a mean, ``(H, W, 3)``, float32."""
        spread = draw.uniform(0, 45)
        knots = (base[:, None, None] + draw.uniform(-spread, spread, (3, 4, 4))).astype(np.float32)
        return np.ascontiguousarray((self._rows @ knots @ self._columns.T).transpose(1, 2, 0))


def _enlargement(n_in: int, n_out: int) -> np.ndarray:
    """Bicubic weights ``(n_out, n_in)``, float32."""
    weights: np.ndarray = F.interpolate(torch.eye(n_in)[None, None], (n_out, n_in), mode="bicubic")[0, 0].numpy()
    return weights


def _alpha(ink: np.ndarray, enlarge: np.ndarray) -> np.ndarray:
    """How much of the ink's colour each pixel has: an enlarged digit, cut to its ink, ``(h, w)``, float32 in [0, 1].

    Blurred strokes are sharpened, so that their edge lies where alpha is a half and is about a pixel wide.
    """
    alpha: np.ndarray = ((enlarge @ ink @ enlarge.T - 0.25) / 0.3).clip(0, 1)
    rows, columns = (np.flatnonzero((alpha >= 0.5).any(axis=axis)) for axis in (1, 0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _color(draw: np.random.Generator, background: float) -> np.ndarray:
    """A colour ``(3,)`` that stands out from a background of a brightness: the first of a few, else the farthest."""
    colors = draw.uniform(0, 255, (8, 3))
    contrast = np.abs(colors @ LUMA - background)
    clear = contrast >= CONTRAST
    color: np.ndarray = colors[clear.argmax() if clear.any() else contrast.argmax()].astype(np.float32)
    return color


def _place(
    draw: np.random.Generator, mask: np.ndarray, ink: np.ndarray, boxes: list[tuple[int, int, int, int]]
) -> tuple[int, int] | None:
    """Top and left of a digit where there is room for it; None if none of the tries has any."""
    h, w = ink.shape
    for top, left in draw.integers(0, (mask.shape[0] - h + 1, mask.shape[1] - w + 1), (TRIES, 2)).tolist():
        box = (left, top, left + w, top + h)
        window = mask[top : top + h, left : left + w]
        if all(_overlap(box, other) <= OVERLAP for other in boxes) and not window[ink].any():
            return top, left
    return None


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Common area as a share of the smaller box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller
