"""The paper estimate, against numbers worked out by hand, and the page that shows it."""

import pytest

from benchmarks.scaling import FAMILIES, Family, estimate, table
from tests.conftest import ROOT


def test_two_gpus_by_hand() -> None:
    """1e9 parameters: 2 GB in bf16, of which a ring of two moves 2 GB through each: 40 ms at 50 GB/s, and two hops."""
    family = Family("by hand", parameters=1e9, forward_flops=1.155e12, samples=1, optimizer_states=2)
    found = estimate(family, 2)
    assert found.step == pytest.approx(0.010)  # 3 * 1.155e12 / (990e12 * 0.35)
    assert found.all_reduce == pytest.approx(0.04002)
    assert found.exposed == pytest.approx(0.04002 - 0.010 * 2 / 3)
    assert found.checkpoint_bytes == 12e9
    assert found.write == pytest.approx(2.4)
    assert found.interval == pytest.approx((2 * 2.4 * 50_000 * 3600) ** 0.5)


def test_more_gpus_are_never_more_efficient() -> None:
    for family in FAMILIES:
        efficiency = [estimate(family, gpus).efficiency for gpus in (1, 8, 64, 1024)]
        assert efficiency == sorted(efficiency, reverse=True)
        assert efficiency[0] == 1


def test_the_page_shows_what_the_script_prints() -> None:
    assert table(1024) in (ROOT / "docs" / "cluster.md").read_text()
