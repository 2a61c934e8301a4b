"""Weights of a largest singular value of one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

ITERATIONS = 20
"""Power iterations of an evaluation."""


class SpectralNorm(_SpectralNorm):
    """Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018; in training torch's own.

    In evaluation torch takes the singular vectors as they are stored. Where weights are averaged (`callbacks.ema`) so
    are those, and an average of vectors that turn is almost zero: logits came out 10,000 times too large. Here an
    evaluation iterates anew and stores nothing.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight."""
        if self.training:
            trained: Tensor = super().forward(weight)
            return trained
        matrix = self._reshape_weight_to_matrix(weight)  # (out, rest)
        with torch.no_grad():
            v = F.normalize(self._v, dim=0)
            for _ in range(ITERATIONS):
                u = F.normalize(matrix.mv(v), dim=0)
                v = F.normalize(matrix.mT.mv(u), dim=0)
        return weight / torch.vdot(u, matrix.mv(v))


def spectral_norm(module: nn.Module) -> None:
    """Divide a layer's ``weight`` by its largest singular value from now on."""
    assert isinstance(module.weight, Tensor)
    register_parametrization(module, "weight", SpectralNorm(module.weight))
