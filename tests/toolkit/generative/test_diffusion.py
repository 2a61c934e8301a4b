"""The schedule and the sampler of diffusion against what they must give."""

import pytest
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.generative.diffusion import DenoisingDiffusion, cosine_signal_share
from toolkit.keys import sample_keys
from toolkit.nn.unet import UNet, sinusoidal_embedding


class OnePoint(UNet):
    """The exact noise where all data is one image of constant 0.5."""

    def forward(self, image: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        share = cosine_signal_share(1000)[(time * 1000).round().long() - 1][:, None, None, None]
        return (image - share.sqrt() * 0.5) / (1 - share).sqrt()


def test_cosine_schedule() -> None:
    share = cosine_signal_share(1000)
    expected = torch.cos(torch.tensor((0.5 + 0.008) / 1.008 * torch.pi / 2)) ** 2
    assert share[499].item() == pytest.approx(expected.item() / 0.99984585, rel=1e-4)  # divided by f(0)
    assert (share.diff() < 0).all()
    assert 0 < share[-1] < 1e-4 < 0.999 < share[0] < 1


@pytest.mark.parametrize("sampling_steps", [1, 7, 1000])
def test_ddim_with_the_exact_noise_finds_the_data(sampling_steps: int) -> None:
    task = DenoisingDiffusion(OnePoint(in_channels=1, width=8), image_size=(4, 4), sampling_steps=sampling_steps)
    drawn = task.draw(sample_keys(0, 0, torch.arange(3)), None)
    torch.testing.assert_close(drawn, torch.full((3, 1, 4, 4), 0.75), rtol=0, atol=2e-3)


def test_guidance_of_one_is_the_class_alone() -> None:
    net = UNet(in_channels=1, num_classes=2, conditional=True, width=8)
    one, zero = (DenoisingDiffusion(net, num_classes=2, image_size=(4, 4), guidance=g) for g in (1.0, 0.0))
    x, time = torch.randn(2, 1, 4, 4), torch.tensor([5, 5])
    label, none = torch.tensor([0, 1]), torch.tensor([2, 2])
    torch.testing.assert_close(one._guided_noise(x, time, label), one._noise(x, time, label))
    torch.testing.assert_close(zero._guided_noise(x, time, label), zero._noise(x, time, none))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="need 1 <= sampling_steps <= steps"):
        DenoisingDiffusion(UNet(in_channels=1, width=8), sampling_steps=2000)
    net = UNet(in_channels=1, num_classes=2, conditional=True, width=8)
    with pytest.raises(UserError, match=r"drop_class 0 never trains; write drop_class: 0\.1, or guidance: 1"):
        DenoisingDiffusion(net, num_classes=2, drop_class=0.0)
    DenoisingDiffusion(net, num_classes=2, drop_class=0.0, guidance=1.0)


def test_time_is_told_exactly_in_half_precision() -> None:
    time = torch.arange(1, 1001) / 1000
    exact = sinusoidal_embedding(time, 8)
    torch.set_default_dtype(torch.bfloat16)  # as Lightning's bf16-true does
    try:
        torch.testing.assert_close(sinusoidal_embedding(time, 8), exact)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_task_in_half_precision_draws_the_same_noise_levels() -> None:
    """Nearly the same pixels: rounded to bfloat16, the first shares of the signal would be 1, and what is left nothing."""
    net = UNet(in_channels=1, width=8)
    task = DenoisingDiffusion(net, image_size=(4, 4), sampling_steps=20)
    key = sample_keys(0, 0, torch.arange(3))
    exact = task.draw(key, None)
    drawn = task.to(torch.bfloat16).draw(key, None)
    assert net.stem.weight.dtype == torch.bfloat16
    torch.testing.assert_close(drawn.float(), exact, rtol=0, atol=0.1)
