"""Denoising diffusion. Shape legend: B batch, C channels, H height, W width, T steps of noise."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from toolkit.errors import UserError
from toolkit.generative.image_generator import ImageGenerator
from toolkit.keys import keyed_normal, keyed_uniform
from toolkit.nn.augmentation import to_float
from toolkit.nn.unet import UNet
from toolkit.precision import at_least_float32, wide_dtype
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Baseline, ImageBatch, ImageScore, Stage, StepOutput

NOISE, TIME, DROPPED, START = 301, 302, 303, 304
"""Streams of `toolkit.keys`."""


def cosine_signal_share(steps: int) -> Tensor:
    """Share of the image's variance that is left after each step of noise.

    Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021, eq. 17.

    Args:
        steps: T.

    Returns:
        ``(T,)``, float32, falling, in ``(0, 1)``: the paper's alpha bar, with its betas cut at 0.999.
    """
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    share = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    beta = (1 - share[1:] / share[:-1]).clamp(max=0.999)
    return (1 - beta).cumprod(dim=0).float()


class DenoisingDiffusion(Task, ImageGenerator):
    """A network learns to tell the noise in an image, and draws by taking noise away.

    Training: Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, algorithm 1, with the cosine
    schedule. Sampling: Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, eq. 12 with sigma 0, the
    predicted image being cut to the range of images. Classes: Ho and Salimans, "Classifier-Free Diffusion Guidance",
    2022: the class is left out of some training samples, and sampling exaggerates the difference that it makes.
    Images are in ``[-1, 1]``.

    Args:
        net: From a noisy image, its time and its class to the noise.
        class_names: Of the data.
        num_classes: K, of the data.
        in_channels: C.
        image_size: ``(H, W)``.
        steps: T.
        sampling_steps: Of DDIM.
        guidance: 1 follows the class, more exaggerates it, 0 ignores it.
        drop_class: Share of the training samples whose class is left out.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: A number out of its range; guidance by what is not trained.
    """

    net: UNet

    def __init__(
        self,
        net: UNet,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        steps: int = 1000,
        sampling_steps: int = 50,
        guidance: float = 2.0,
        drop_class: float = 0.1,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        if not 1 <= sampling_steps <= steps or not 0 <= drop_class <= 1 or guidance < 0:
            raise UserError(
                "DenoisingDiffusion: need 1 <= sampling_steps <= steps, 0 <= drop_class <= 1 and guidance >= 0, got "
                f"{sampling_steps}, {steps}, {drop_class} and {guidance}."
            )
        if net.num_classes is not None and drop_class == 0 and guidance != 1:
            raise UserError(
                f"DenoisingDiffusion: guidance {guidance} compares each class with none, which drop_class 0 never "
                "trains; write drop_class: 0.1, or guidance: 1."
            )
        super().__init__(net, optimizer, scheduler, scheduler_config)
        self.is_conditional = net.num_classes is not None
        self.class_names = list(class_names or map(str, range(num_classes or 0)))
        self.shape = (in_channels, image_size[0], image_size[1])
        self.steps, self.sampling_steps = steps, sampling_steps
        self.guidance, self.drop_class = guidance, drop_class
        self._signal_share = cosine_signal_share(steps)  # (T,); no buffer, which half precision would round to 1

    def step(self, batch: ImageBatch, stage: Stage) -> StepOutput:
        """Mean squared error of the predicted noise, at a time that is drawn for each image."""
        errors = self._errors(batch, stage == "train")  # (B,)
        readable = batch.label != IGNORE_LABEL
        count = readable.sum()
        loss = (errors * readable).sum() / count.clamp(min=1)
        self.record(stage, count, loss=loss)
        score = None if stage == "train" else ImageScore(-errors.float(), batch.index, readable)
        return StepOutput(loss, score, weight=count)

    def baseline(self, data: Any, stage: Stage) -> Baseline:
        """No noise predicted: what is missed is the noise's variance, 1."""
        return Baseline("zero", {"loss": 1.0})

    def _errors(self, batch: ImageBatch, training: bool) -> Tensor:
        image = (2 * to_float(batch.image) - 1).to(wide_dtype(self.dtype))
        time = (keyed_uniform(batch.key, TIME)[:, 0] * self.steps).long()  # (B,)
        noise = keyed_normal(batch.key, NOISE, image[0].numel()).view_as(image).to(image.dtype)
        share = self._signal_share_on(image.device)[time].to(image.dtype)[:, None, None, None]
        label = batch.label.clamp(min=0)
        if training:
            dropped = keyed_uniform(batch.key, DROPPED)[:, 0] < self.drop_class
            label = label.where(~dropped, self.net.num_classes or 0)
        predicted = self._noise(share.sqrt() * image + (1 - share).sqrt() * noise, time, label)
        return (predicted - noise).square().flatten(1).mean(dim=1)

    def _noise(self, noisy: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        time = (time + 1).to(wide_dtype(self.dtype)) / self.steps
        return at_least_float32(self.net(noisy.to(self.dtype), time, label if self.is_conditional else None))

    def _signal_share_on(self, device: torch.device) -> Tensor:
        self._signal_share = self._signal_share.to(device)
        return self._signal_share

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> ImageScore:
        """The negative denoising error of each image at one time: noisy itself, and no likelihood."""
        score = -self._errors(batch, training=False).float()
        return ImageScore(score, batch.index, batch.label != IGNORE_LABEL)

    def draw(self, key: Tensor, label: Tensor | None) -> Tensor:
        """Images of noise that is drawn by key, in ``sampling_steps`` steps."""
        x = keyed_normal(key, START, math.prod(self.shape)).view(-1, *self.shape).to(wide_dtype(self.dtype))
        signal_share = self._signal_share_on(x.device)
        times = torch.linspace(self.steps - 1, 0, self.sampling_steps, dtype=torch.float32).round().long().tolist()
        for now, after in zip(times, [*times[1:], -1], strict=True):
            share = signal_share[now]
            noise = self._guided_noise(x, torch.full_like(key, now), label)
            image = ((x - (1 - share).sqrt() * noise) / share.sqrt()).clamp(-1, 1)
            noise = (x - share.sqrt() * image) / (1 - share).sqrt()  # that which belongs to the image as cut
            left = signal_share[after] if after >= 0 else torch.ones_like(share)
            x = left.sqrt() * image + (1 - left).sqrt() * noise
        return (x + 1) / 2

    def _guided_noise(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        if label is None or self.guidance == 1:
            return self._noise(x, time, label)
        nothing = torch.full_like(label, self.net.num_classes or 0)
        both = self._noise(torch.cat([x, x]), torch.cat([time, time]), torch.cat([label, nothing]))
        of_class, of_none = both.chunk(2)
        return of_none + self.guidance * (of_class - of_none)
