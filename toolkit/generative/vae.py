"""Variational autoencoder. Shape legend: B batch, C channels, H height, W width, D latent dimensions."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from toolkit.generative.image_generator import CodeGenerator, evaluation_batches
from toolkit.generative.networks.conv_vae import ConvVAE, Posterior
from toolkit.keys import keyed_normal, keyed_uniform, sample_keys
from toolkit.losses.gaussian_kl import GaussianKL, gaussian_kl, mean_over
from toolkit.losses.likelihood import BernoulliLikelihood, Likelihood
from toolkit.nn.augmentation import to_float
from toolkit.precision import at_least_float32, float64, wide_dtype
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, ImageScore, Stage, StepOutput

CODE, BINARISATION = 101, 102
"""Streams of `toolkit.keys`."""
BINARISATION_SEED = 2013
"""Of the binarised validation and test images, which are the same in every run."""


class VAE(Task, CodeGenerator):
    """A latent code for each image: encoder and decoder maximise the evidence lower bound (ELBO).

    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014. Images are in ``[0, 1]``. With binary pixels each
    training image is binarised anew whenever it is seen (Burda et al., "Importance Weighted Autoencoders", ICLR 2016);
    those of validation and test once and for all, with a fixed seed. Evaluation draws one code an image and reports the
    plain ELBO, whatever the training weighs.

    Args:
        net: Encoder and decoder.
        likelihood: Of an image given the decoder's output; Bernoulli if None.
        kl: Weight and free nats of the divergence; the plain one if None.
        class_names: Of the data; nothing is conditioned on them.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.
    """

    net: ConvVAE
    monitor = "val/elbo"
    mode = "max"
    is_conditional = False

    def __init__(
        self,
        net: ConvVAE,
        likelihood: Likelihood | None = None,
        kl: GaussianKL | None = None,
        class_names: Sequence[str] | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        scalars = ("loss", "elbo", "reconstruction", "kl", "bits_per_dim")
        super().__init__(net, optimizer, scheduler, scheduler_config, scalars=scalars)
        self.likelihood = likelihood or BernoulliLikelihood()
        self.kl = kl or GaussianKL()
        self.class_names = list(class_names or [])

    def target(self, batch: ImageBatch, stage: Stage) -> Tensor:
        """The images whose likelihood is asked for: ``(B, C, H, W)``, 0 and 1 if the likelihood is of binary pixels."""
        image = to_float(batch.image)
        if self.likelihood.binary:
            key = batch.key if stage == "train" else sample_keys(BINARISATION_SEED, 0, batch.index)
            uniform = keyed_uniform(key, BINARISATION, image[0].numel()).view_as(image)
            image = (uniform < image).float()
        return image.to(wide_dtype(self.dtype))

    def code(self, posterior: Posterior, key: Tensor) -> Tensor:
        """A draw ``(B, D)`` of the posterior, through which gradients flow."""
        noise = keyed_normal(key, CODE, posterior.mean.shape[1]).to(posterior.mean.dtype)
        return posterior.mean + (0.5 * posterior.log_variance).exp() * noise

    def bound(self, image: Tensor, key: Tensor) -> tuple[Tensor, Posterior]:
        """Log likelihood ``(B,)`` under one code an image, and the posterior."""
        posterior = Posterior(*(at_least_float32(part) for part in self.net.encode(image.to(self.dtype))))
        output = self.net.decode(self.code(posterior, key).to(self.dtype))
        return self.likelihood(at_least_float32(output), image), posterior

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """The negative weighted bound in training, the plain one in evaluation."""
        log_likelihood, posterior = self.bound(self.target(batch, stage), batch.key)
        kl = gaussian_kl(*posterior).sum(dim=1)  # (B,)
        elbo = log_likelihood - kl
        readable = batch.label != IGNORE_LABEL
        parts = {
            name: mean_over(value, readable)
            for name, value in (("elbo", elbo), ("reconstruction", log_likelihood), ("kl", kl))
        }
        loss = self.kl(*posterior, readable) - parts["reconstruction"] if stage == "train" else -parts["elbo"]
        bits = -parts["elbo"] / (batch.image[0].numel() * math.log(2))
        count = readable.sum()
        self.record(stage, count, loss=loss, **parts, bits_per_dim=bits)
        score = None if stage == "train" else ImageScore(elbo.float(), batch.index, readable)
        return StepOutput(loss, score, weight=count)

    def baseline(self, data: Any, stage: Stage) -> Baseline | None:
        """The likelihood of binary pixels that are coins, each with this split's own frequency."""
        if not self.likelihood.binary:
            return None
        sums, count = [], 0
        for batch in evaluation_batches(data, stage):
            target = self.target(batch, stage)[batch.label != IGNORE_LABEL]
            sums.append(float64(target).sum(dim=0))
            count += len(target)
        mean = torch.stack(sums).sum(dim=0) / count
        nats = float((torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum())
        return Baseline("coins", {"elbo": nats, "loss": -nats, "bits_per_dim": -nats / (mean.numel() * math.log(2))})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageScore:
        """The ELBO of each image, in nats."""
        elbo = self.elbo(batch)
        return ImageScore(elbo.float(), batch.index, batch.label != IGNORE_LABEL)

    def elbo(self, batch: ImageBatch) -> Tensor:
        """ELBO ``(B,)`` of images, on their fixed binarisation."""
        log_likelihood, posterior = self.bound(self.target(batch, "test"), batch.key)
        return log_likelihood - gaussian_kl(*posterior).sum(dim=1)

    def codes(self, key: Tensor) -> Tensor:
        """Codes from the prior."""
        return keyed_normal(key, CODE, self.net.latent_dim).to(self.dtype)

    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Mean images of codes."""
        return self.likelihood.mean(self.net.decode(code))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Mean images of the mean codes of images ``(B, C, H, W)``, uint8 or in ``[0, 1]``."""
        return self.likelihood.mean(self.net(to_float(image).to(self.dtype)))
