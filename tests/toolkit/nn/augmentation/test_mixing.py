import pytest
import torch
from scipy import stats
from torch import Tensor

from toolkit.keys import sample_keys
from toolkit.nn.augmentation import CutMix, Mixing, Mixup, MixupOrCutMix, to_float

MIXINGS = pytest.mark.parametrize("mixing", [Mixup(1.0), CutMix(), MixupOrCutMix()], ids=lambda m: type(m).__name__)
ONE_HOT = torch.eye(24)
"""Every sample of the batch is a class of its own, so that its target names what it was mixed of."""


def shares(target: Tensor) -> Tensor:
    """Weight of each sample's own image, from targets mixed of `ONE_HOT`."""
    own = target.diagonal()
    torch.testing.assert_close(target, torch.diag(own) + (1 - torch.diag(own).diagonal())[:, None] * ONE_HOT.roll(1, 0))
    return own


def test_mixup_is_the_mean_weighted_as_the_targets_are(image: Tensor, key: Tensor) -> None:
    floats = to_float(image)
    mixed, target = Mixup(1.0)(floats, ONE_HOT, key)
    own = shares(target)
    assert len(set(own.tolist())) == 24
    for i in range(24):
        expected = own[i] * floats[i] + (1 - own[i]) * floats[i - 1]
        torch.testing.assert_close(mixed[i], expected, rtol=0, atol=1e-6)


def test_cutmix_pastes_a_rectangle_whose_area_is_the_weight(key: Tensor) -> None:
    floats = torch.arange(24.0)[:, None, None, None].expand(24, 3, 20, 14)  # image i is all i
    mixed, target = CutMix()(floats, ONE_HOT, key)
    own = shares(target)
    for i in range(24):
        pasted = mixed[i, 0] == (i - 1) % 24
        assert torch.equal(mixed[i], torch.where(pasted, (i - 1.0) % 24, float(i)).expand(3, 20, 14))
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns)
        for side in (rows, columns):
            assert side.int().diff().abs().sum() <= 2  # one piece
        assert own[i].item() == pytest.approx(1 - pasted.sum().item() / 280, abs=1e-6)


def test_cutmix_box_by_hand() -> None:
    """alpha = 1 and u = (., 3/4, 0) give lambda = 1/2 + sqrt(1 - 3/4) / 2 = 3/4: sides are half of the image's."""
    u = torch.tensor([[0.0, 0.75, 0.0, 0.5, 0.5], [0.0, 0.75, 0.0, 0.0, 0.999], [0.9, 0.75, 0.0, 0.5, 0.5]])
    box = CutMix(alpha=1.0, p=0.8).make_params(u, (16, 24))
    assert torch.stack(box, dim=1)[:2].tolist() == [[4, 6, 8, 12], [0, 17, 4, 7]]
    assert box.height[2] * box.width[2] == 0


def test_mixup_weight_by_hand() -> None:
    u = torch.tensor([[0.0, 0.75, 0.0], [0.0, 0.75, 0.5], [0.9, 0.75, 0.0]])
    assert Mixup(alpha=1.0, p=0.8).make_params(u).tolist() == pytest.approx([0.75, 0.25, 1.0])


def test_either_takes_each_for_half_of_the_samples() -> None:
    key = sample_keys(0, 0, torch.arange(2000))
    image, target = torch.rand(2000, 1, 8, 8), torch.rand(2000, 3)
    either = MixupOrCutMix(0.8, 1.0)
    (mixed, mixed_target), (mean, mean_target), (cut, cut_target) = (
        mixing(image, target, key) for mixing in (either, Mixup(0.8), CutMix(1.0))
    )
    is_mean, is_cut = ((mixed == other).flatten(1).all(1) for other in (mean, cut))
    assert (is_mean | is_cut).all()
    assert torch.equal(mixed_target[~is_cut], mean_target[~is_cut])
    assert torch.equal(mixed_target[~is_mean], cut_target[~is_mean])
    assert abs(is_mean[is_mean != is_cut].float().mean() - 0.5) < 4 * 0.5 / 2000**0.5


@MIXINGS
def test_soft_targets_still_sum_to_1_and_dtypes_stay(mixing: Mixing, image: Tensor, key: Tensor) -> None:
    target = torch.rand(24, 5).softmax(dim=1)
    for dtype, atol in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        mixed, mixed_target = mixing(to_float(image).to(dtype), target.to(dtype), key)
        assert mixed.dtype == mixed_target.dtype == dtype
        assert mixed.shape == image.shape
        torch.testing.assert_close(mixed_target.float().sum(1), torch.ones(24), rtol=0, atol=atol)
        assert not torch.equal(mixed_target, target.to(dtype))


@MIXINGS
def test_the_key_and_the_partner_alone_decide(mixing: Mixing, image: Tensor, key: Tensor) -> None:
    floats, state = to_float(image), torch.random.get_rng_state()
    mixed, target = mixing(floats, ONE_HOT, key)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(floats, to_float(image))
    again, target_again = mixing(floats, ONE_HOT, key)
    assert torch.equal(mixed, again)
    assert torch.equal(target, target_again)
    part, part_target = mixing(floats[4:9], ONE_HOT[4:9], key[4:9])
    assert torch.equal(part[1:], mixed[5:9])  # but the first, whose partner is now another
    assert torch.equal(part_target[1:], target[5:9])
    assert not torch.equal(target, mixing(floats, ONE_HOT, sample_keys(0, 1, torch.arange(24)))[1])


@pytest.mark.parametrize("mixing", [Mixup(p=0), CutMix(p=0), MixupOrCutMix(p=0)], ids=lambda m: type(m).__name__)
def test_probability_0_is_the_identity(mixing: Mixing, image: Tensor, key: Tensor) -> None:
    mixed, target = mixing(to_float(image), ONE_HOT, key)
    assert torch.equal(mixed, to_float(image))
    assert torch.equal(target, ONE_HOT)


def test_rate_and_distribution_of_the_weight(many: Tensor) -> None:
    """One pixel is enough for the weights; the target of class 0 tells them."""
    target = torch.tensor([1.0, 0.0]).repeat(5000)[:, None]  # neighbours differ
    own = Mixup(alpha=0.4, p=0.6)(torch.zeros(10_000, 1, 1, 1), target, many)[1][:, 0]
    own = torch.where(target[:, 0] == 1, own, 1 - own)
    mixed = own < 1  # a weight of Beta(0.4, 0.4) that rounds to 1 is rare: 1e-3
    assert abs(mixed.float().mean() - 0.6) < 4 * (0.6 * 0.4 / 10_000) ** 0.5 + 1e-3
    assert stats.kstest(own[mixed].double().numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
