import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation import GaussianBlur, RandomApply, to_float


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, (0.1, 2.0)), (9, (0.5, 4.0)), (27, 3.0)])
def test_matches_torchvision(
    kernel_size: int, sigma: float | tuple[float, float], channels: int, image: Tensor, key: Tensor
) -> None:
    """Up to 5e-6, since torchvision sums the whole square at once; 27 is the largest kernel that images 14 wide can be mirrored for."""
    transform, u = GaussianBlur(kernel_size, sigma), keyed_uniform(key, 0)
    floats, sigmas = to_float(image[:, :channels]), transform.make_params(u).tolist()
    expected = [TF.gaussian_blur(one, [kernel_size] * 2, [s]) for one, s in zip(floats, sigmas, strict=True)]
    torch.testing.assert_close(transform(floats, u), torch.stack(expected), rtol=0, atol=5e-6)


def test_uniform_images_stay() -> None:
    grey = torch.full((2, 3, 8, 8), 0.3)
    torch.testing.assert_close(GaussianBlur(5)(grey, torch.tensor([[0.1], [0.9]])), grey, rtol=0, atol=1e-6)


def test_sigma_is_uniform(many: Tensor) -> None:
    sigma = GaussianBlur(3, (0.5, 1.5)).make_params(keyed_uniform(many, 0))
    assert stats.kstest(sigma.numpy(), stats.uniform(0.5, 1).cdf).pvalue > 1e-3


def test_small_images_are_refused(image: Tensor) -> None:
    with pytest.raises(UserError, match=r"kernel_size: 29 is too large for images of \[20, 14\]; write at most 27"):
        GaussianBlur(29)(image, torch.zeros(24, 1))


def test_a_batch_of_which_no_image_is_blurred(image: Tensor, key: Tensor) -> None:
    apply = RandomApply(GaussianBlur(3), p=0.0)
    assert torch.equal(apply(image, keyed_uniform(key, 0, apply.draws)), to_float(image))
