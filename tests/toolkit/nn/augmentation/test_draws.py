import pytest
import torch
from scipy import stats
from torch import Tensor

from toolkit.keys import keyed_uniform
from toolkit.nn.augmentation.draws import RECTANGLE_DRAWS, TRIES, Rectangles, below, between, rectangles, symmetric_beta

LARGEST = 1 - 2.0**-24
"""The largest number that `keyed_uniform` gives."""


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 2**24 - 1, 2**24])
def test_below_never_reaches_n(n: int) -> None:
    assert below(torch.tensor([0.0, LARGEST]), n).tolist() == [0, n - 1]
    assert below(torch.tensor([0.0, LARGEST]), torch.tensor([n, n])).tolist() == [0, n - 1]


def test_below_is_uniform(many: Tensor) -> None:
    counts = below(keyed_uniform(many, 0)[:, 0], 9).bincount(minlength=9)
    assert len(counts) == 9
    assert stats.chisquare(counts.tolist()).pvalue > 1e-3


def test_between() -> None:
    assert between(torch.tensor([0.0, 0.5, LARGEST]), (-2.0, 6.0)).tolist() == pytest.approx([-2, 2, 6])
    assert between(torch.tensor([0.3]), (1.5, 1.5)).item() == 1.5


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0, 100.0])
def test_symmetric_beta_is_beta(alpha: float, many: Tensor) -> None:
    """Kolmogorov's statistic at its 0.001 level, on a grid: near 0 and 1, float32 rounds a small alpha's numbers."""
    drawn = symmetric_beta(keyed_uniform(many, 0, 2), alpha)
    grid = torch.linspace(0.001, 0.999, 500)
    below_grid = (drawn[:, None] < grid).double().mean(dim=0)
    expected = torch.from_numpy(stats.beta(alpha, alpha).cdf(grid.numpy()))
    assert (below_grid - expected).abs().max() < 1.95 / len(many) ** 0.5


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 1e4])
def test_symmetric_beta_is_finite_at_the_ends(alpha: float) -> None:
    ends = torch.tensor([0.0, 0.25, 0.5, 0.75, LARGEST])
    drawn = symmetric_beta(torch.cartesian_prod(ends, ends), alpha)
    assert drawn.isfinite().all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_rectangles_take_the_first_try_that_fits() -> None:
    """10 x 10 pixels, squares of 100 times the share: the first two tries are too large, the third is 5 x 5."""
    u = torch.zeros(1, RECTANGLE_DRAWS)
    u[0, :4] = torch.tensor([0.9, 0.6, 0.25, 0.01])
    u[0, -2:] = torch.tensor([0.5, LARGEST])
    (top, left, height, width), found = rectangles(u, (10, 10), scale=(0, 1), ratio=(1, 1), largest=(6, 6))
    assert found.item()
    assert (top.item(), left.item(), height.item(), width.item()) == (3, 5, 5, 5)


def test_rectangles_that_never_fit() -> None:
    u = torch.full((1, RECTANGLE_DRAWS), LARGEST)
    assert not rectangles(u, (10, 10), scale=(0.5, 1), ratio=(1, 1), largest=(6, 6))[1].item()
    u[:, TRIES - 1] = 0.0  # 0.3 of the area in the last try
    assert rectangles(u, (10, 10), scale=(0.3, 1), ratio=(1, 1), largest=(6, 6))[1].item()


def test_rectangles_lie_in_the_image_anywhere(many: Tensor) -> None:
    u = keyed_uniform(many, 0, RECTANGLE_DRAWS)
    (top, left, height, width), found = rectangles(u, (20, 14), (0.02, 0.9), (0.3, 3.3), largest=(20, 13))
    assert found.float().mean() > 0.99
    for start, side, most in ((top[found], height[found], 20), (left[found], width[found], 13)):
        assert start.min() == 0
        assert side.min() >= 1
        assert side.max() <= most
    assert (top + height)[found].max() == 20
    assert (left + width)[found].max() == 14


def test_contains() -> None:
    box = Rectangles(*(torch.tensor(v) for v in ([1, 0], [0, 2], [2, 0], [1, 3])))
    expected = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    expected[0, 0, 1:3, 0] = True  # the second is empty
    assert torch.equal(box.contains(4, 5), expected)
