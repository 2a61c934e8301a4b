"""Covered images. Shape legend: B batch, C channels, H height, W width."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.nn.augmentation.base import PixelTransform
from toolkit.nn.augmentation.checks import check_intensity, check_probability, check_range, intensity
from toolkit.nn.augmentation.draws import RECTANGLE_DRAWS, Rectangles, rectangles


class RandomErasing(PixelTransform):
    """Cover a rectangle of random area and shape with one colour; the dtype stays.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. Departure: the paper fills with random pixels or the
    mean of the data; here ``value`` says what, and the mean is a good choice. As in torchvision, the first of ten drawn
    rectangles that is smaller than the image is taken, and if none is, nothing is covered.

    Args:
        p: Probability.
        scale: Range of the covered area, as share of the image's.
        ratio: Range of the rectangle's height / width.
        value: The colour, in ``[0, 1]``; one number, or one a channel.

    Raises:
        UserError: A probability, range or colour that makes no sense.
    """

    draws = 1 + RECTANGLE_DRAWS

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        check_probability("RandomErasing.p", p)
        check_range("RandomErasing.scale", scale, 0, 1, (0.02, 0.33))
        check_range("RandomErasing.ratio", ratio, 0, float("inf"), (0.3, 3.3), open_low=True)
        check_intensity("RandomErasing.value", value)
        self.p = p
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])
        self.value = value

    def make_params(self, u: Tensor, image_size: tuple[int, int]) -> Rectangles:
        """The covered rectangles in images of ``image_size``; height and width are 0 where nothing is covered."""
        H, W = image_size
        width_by_height = (1 / self.ratio[1], 1 / self.ratio[0])
        drawn, found = rectangles(u[:, 1:], image_size, self.scale, width_by_height, largest=(H - 1, W - 1))
        covers = found & (u[:, 0] < self.p)
        return drawn._replace(height=drawn.height * covers, width=drawn.width * covers)

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, some partly covered."""
        H, W = image.shape[2:]
        inside = self.make_params(u, (H, W)).contains(H, W)  # (B, 1, H, W)
        return torch.where(inside, intensity("RandomErasing.value", self.value, image), image)
