"""A linear layer that explores: its weights are noisy, and it learns how noisy. Shape legend: I inputs, O outputs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError


class NoisyLinear(nn.Module):
    r"""A linear layer whose parameters are drawn around learned means with learned spreads.

    Fortunato et al., "Noisy Networks for Exploration", ICLR 2018, with factorised Gaussian noise (eq. 9 to 11): of I
    and of O normal numbers,

    .. math::
        \varepsilon^w_{ij} = f(\varepsilon_i) f(\varepsilon_j), \quad \varepsilon^b_j = f(\varepsilon_j), \quad
        f(x) = \mathrm{sgn}(x) \sqrt{|x|}.

    The noise stays until `reset_noise` draws it anew; there is none before the first draw, and none in evaluation,
    where the means act. It is not in the ``state_dict``.

    Args:
        in_features: I.
        out_features: O.
        sigma: The spreads begin as ``sigma / sqrt(I)`` (section 3.2).

    Raises:
        UserError: ``sigma`` is negative.

    >>> layer = NoisyLinear(4, 2)
    >>> layer.reset_noise()
    >>> layer(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__()
        if sigma < 0:
            raise UserError(f"NoisyLinear.sigma: need a spread of at least 0, such as 0.5, got {sigma}.")
        self.in_features, self.out_features, self.sigma = in_features, out_features, sigma
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.weight_sigma = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.bias_sigma = nn.Parameter(torch.empty(out_features))
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the means anew, and set the spreads back."""
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        nn.init.constant_(self.weight_sigma, self.sigma * bound)
        nn.init.constant_(self.bias_sigma, self.sigma * bound)

    @torch.no_grad()
    def reset_noise(self) -> None:
        """Draw the noise anew, from torch's default generator."""
        for noise in (self.noise_in, self.noise_out):
            noise.normal_()
            noise.copy_(noise.sign() * noise.abs().sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """``(B, I)`` to ``(B, O)``."""
        if not self.training:
            return F.linear(features, self.weight, self.bias)
        noise = torch.outer(self.noise_out, self.noise_in)  # (O, I)
        weight = torch.addcmul(self.weight, self.weight_sigma, noise)
        bias = torch.addcmul(self.bias, self.bias_sigma, self.noise_out)
        return F.linear(features, weight, bias)

    def extra_repr(self) -> str:
        """For printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}, sigma={self.sigma}"
