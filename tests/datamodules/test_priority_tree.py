import numpy as np
import pytest

from datamodules.priority_tree import CHILDREN, PriorityTree

SIZES = [1, 2, CHILDREN, CHILDREN + 1, CHILDREN**2, CHILDREN**2 + 1, 5000]


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_those_of_the_leaves_after_random_updates(size: int) -> None:
    generator = np.random.default_rng(size)
    tree, expected = PriorityTree(size), np.zeros(size)
    for _ in range(200):
        leaf = generator.integers(size, size=7)
        priority = generator.random(7) * generator.integers(0, 2, size=7)
        tree.set(leaf, priority)
        for one, value in zip(leaf, priority, strict=True):  # of a leaf that occurs twice the last counts
            expected[one] = value
        assert np.array_equal(tree.priority, expected)
        assert tree.total == pytest.approx(expected.sum(), rel=1e-12)
        for lower, upper in zip(tree._levels, tree._levels[1:], strict=False):
            assert np.array_equal(upper.reshape(-1)[: len(lower)], lower.sum(1))


@pytest.mark.parametrize("size", SIZES)
def test_finds_what_a_running_sum_finds(size: int) -> None:
    generator = np.random.default_rng(size)
    priority = generator.integers(0, 4, size=size).astype(float)  # sums of whole numbers are exact
    priority[-1] = 3
    tree = PriorityTree(size)
    tree.set(np.arange(size), priority)
    mass = generator.random(1000) * tree.total
    mass[:3] = 0, priority[0], np.nextafter(tree.total, 0)
    mass[1] = min(mass[1], mass[2])
    assert np.array_equal(tree.find(mass), np.searchsorted(priority.cumsum(), mass, side="right"))


def test_a_leaf_is_found_in_proportion_to_its_priority() -> None:
    tree = PriorityTree(40)
    priority = np.arange(40, dtype=float) % 5
    tree.set(np.arange(40), priority)
    draws = 200_000
    count = np.bincount(tree.find(np.random.default_rng(0).random(draws) * tree.total), minlength=40)
    expected = draws * priority / priority.sum()
    assert (count[priority == 0] == 0).all()
    chi_square = ((count - expected)[priority > 0] ** 2 / expected[priority > 0]).sum()
    assert chi_square < 61.1  # 31 degrees of freedom, one in a thousand


def test_rounding_never_leads_to_an_empty_leaf() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        tree = PriorityTree(700)
        priority = 10.0 ** generator.uniform(-12, 12, 700) * (generator.random(700) < 0.1)
        priority[generator.integers(700)] = 1
        tree.set(np.arange(700), priority)
        edges = np.concatenate([[0], priority.cumsum()])
        mass = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), [tree.total * 2]])
        assert (priority[tree.find(mass)] > 0).all()


def test_a_tree_built_from_saved_leaves_is_the_same_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    tree = PriorityTree(3000)
    for _ in range(300):
        tree.set(generator.integers(3000, size=20), generator.random(20))
    other = PriorityTree(3000)
    other.set(np.arange(3000), tree.priority.copy())
    for mine, theirs in zip(tree._levels, other._levels, strict=True):
        assert np.array_equal(mine, theirs)
