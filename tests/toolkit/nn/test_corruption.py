import pytest
import torch

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.corruption import Corruption, GaussianNoise, MaskingNoise

KEYS = sample_keys(0, 0, torch.arange(200))
GREY = torch.full((200, 3, 8, 8), 0.5)


def test_gaussian_noise_has_its_deviation() -> None:
    noise = GaussianNoise(0.3)(GREY, KEYS) - GREY
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)


def test_masking_blacks_out_its_share_in_all_channels() -> None:
    image = MaskingNoise(0.25)(GREY, KEYS)
    assert set(image.unique().tolist()) == {0.0, 0.5}
    assert float((image == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(image[:, 0], image[:, 2])


@pytest.mark.parametrize("corruption", [GaussianNoise(), MaskingNoise()])
def test_damage_belongs_to_the_sample_alone(corruption: Corruption) -> None:
    whole = corruption(GREY, KEYS)
    assert torch.equal(corruption(GREY[5:7], KEYS[5:7]), whole[5:7])
    assert not torch.equal(whole[0], whole[1])
    assert corruption(GREY.double(), KEYS).dtype == torch.float64


@pytest.mark.parametrize(("make", "value"), [(GaussianNoise, 0.0), (MaskingNoise, 0.0), (MaskingNoise, 1.0)])
def test_nothing_or_everything_is_no_damage(make: type[Corruption], value: float) -> None:
    with pytest.raises(UserError, match=f"got {value}"):
        make(value)
