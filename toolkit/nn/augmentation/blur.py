"""Blurred images. Shape legend: B batch, C channels, H height, W width, k side of the kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.errors import UserError
from toolkit.nn.augmentation.base import PixelTransform, to_float
from toolkit.nn.augmentation.checks import check_range
from toolkit.nn.augmentation.draws import between


class GaussianBlur(PixelTransform):
    """Blur with a Gaussian of random width, mirroring the image at its border; gives float32.

    Args:
        kernel_size: k, odd.
        sigma: Range of the standard deviation in pixels; one number fixes it.

    Raises:
        UserError: An even kernel, a range that makes no sense; from ``forward``, images smaller than half the kernel.
    """

    draws = 1

    def __init__(self, kernel_size: int, sigma: float | tuple[float, float] = (0.1, 2.0)) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"GaussianBlur.kernel_size: need an odd number above 0, got {kernel_size}; such as 3.")
        bounds = (sigma, sigma) if isinstance(sigma, (int, float)) else sigma
        check_range("GaussianBlur.sigma", bounds, 0, float("inf"), (0.1, 2.0), open_low=True)
        self.kernel_size = kernel_size
        self.sigma = (bounds[0], bounds[1])

    def make_params(self, u: Tensor) -> Tensor:
        """Standard deviations, ``(B,)``, in pixels."""
        return between(u[:, 0], self.sigma)

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Blurred images ``(B, C, H, W)``, float32."""
        B, C, H, W = image.shape
        k, half = self.kernel_size, self.kernel_size // 2
        if half >= min(H, W):
            raise UserError(
                f"GaussianBlur.kernel_size: {k} is too large for images of {[H, W]}; write at most {2 * min(H, W) - 1}."
            )
        offset = torch.arange(-half, half + 1, dtype=torch.float32, device=image.device)  # (k,)
        kernel = (-0.5 * (offset / self.make_params(u)[:, None]).square()).softmax(dim=1)  # (B, k)
        kernel = kernel.repeat_interleave(C, dim=0)[:, None]  # (BC, 1, k)
        # Every image has its own kernel, so the batch goes through the convolution as channels in groups of one.
        padded = F.pad(to_float(image), (half, half, half, half), mode="reflect")
        padded = padded.reshape(1, B * C, H + k - 1, W + k - 1)  # a copy if the images are channels-last
        rows = F.conv2d(padded, kernel[:, :, None, :], groups=B * C)  # (1, BC, H + k - 1, W)
        return F.conv2d(rows, kernel[:, :, :, None], groups=B * C).view(B, C, H, W)
