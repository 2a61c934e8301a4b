"""Divergence of a diagonal normal distribution from the standard one.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B; free bits: Kingma et al., "Improving
Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016, appendix C.8.
Shape legend: B batch, D latent dimensions.
"""

from torch import Tensor, nn

from toolkit.errors import UserError


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each dimension.

    Args:
        mean: ``(B, D)``.
        log_variance: ``(B, D)``.

    Returns:
        ``(B, D)``, nats.

    >>> import torch
    >>> gaussian_kl(torch.tensor([[2.0]]), torch.zeros(1, 1)).item()
    2.0
    """
    if mean.shape != log_variance.shape:
        raise UserError(f"gaussian_kl: mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)} differ.")
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the samples of a batch that count; 0 if none does.

    Args:
        values: ``(B, ...)``.
        counted: ``(B,)``, bool.

    Returns:
        ``(...)``.

    >>> import torch
    >>> mean_over(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    chosen = counted.view(-1, *[1] * (values.ndim - 1))
    return values.where(chosen, 0).sum(dim=0) / counted.sum().clamp(min=1)


class GaussianKL(nn.Module):
    """The divergence as it is minimised: weighted, and free up to some nats a dimension.

    Args:
        beta: Weight; above 1 for disentangled codes (Higgins et al., "beta-VAE", ICLR 2017).
        free_nats: What each dimension may spend, on the batch's mean, without being pressed.

    Raises:
        UserError: A number is negative.
    """

    def __init__(self, beta: float = 1.0, free_nats: float = 0.0) -> None:
        super().__init__()
        if beta < 0 or free_nats < 0:
            raise UserError(f"GaussianKL: need beta >= 0 and free_nats >= 0, got {beta} and {free_nats}.")
        self.beta, self.free_nats = beta, free_nats

    def forward(self, mean: Tensor, log_variance: Tensor, counted: Tensor | None = None) -> Tensor:
        """Scalar, mean over the batch; with ``counted``, ``(B,)``, over the samples where it is true."""
        each = gaussian_kl(mean, log_variance)  # (B, D)
        kl = each.mean(dim=0) if counted is None else mean_over(each, counted)  # (D,)
        return self.beta * (kl.clamp(min=self.free_nats) if self.free_nats else kl).sum()
