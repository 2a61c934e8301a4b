import pytest
import torch

from datamodules.splits import stratified_split
from toolkit.errors import UserError

LABEL = torch.tensor([0] * 50 + [1] * 30 + [4] * 20)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("size", [0, 7, 20, 0.1, 0.25])
def test_parts_are_disjoint_complete_and_of_the_asked_size(size: float) -> None:
    kept, held_out = stratified_split(LABEL, size, seed=0)
    assert torch.cat([kept, held_out]).sort().values.tolist() == list(range(100))
    assert len(held_out) == (size if isinstance(size, int) else round(100 * size))
    assert kept.tolist() == sorted(kept.tolist())


def test_every_class_has_its_share() -> None:
    held_out = stratified_split(LABEL, 0.2, seed=3)[1]
    assert LABEL[held_out].bincount().tolist() == [10, 6, 0, 0, 4]


def test_a_class_of_one_sample_stays_in_training() -> None:
    label = torch.tensor([0] * 9 + [1])
    kept, held_out = stratified_split(label, 0.5, seed=0)
    assert 1 in label[kept]
    assert 1 not in label[held_out]


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(5)
    first = stratified_split(LABEL, 20, seed=0)[1]
    torch.manual_seed(6)
    assert torch.equal(first, stratified_split(LABEL, 20, seed=0)[1])
    assert not torch.equal(first, stratified_split(LABEL, 20, seed=1)[1])


@pytest.mark.parametrize("size", [-1, 100, 1.0, -0.1])
def test_sizes_that_leave_nothing_are_refused(size: float) -> None:
    with pytest.raises(UserError, match="cannot hold out"):
        stratified_split(LABEL, size, seed=0)
