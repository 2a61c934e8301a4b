import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.priority_sampler import Priorities, PrioritySampler
from toolkit.errors import UserError


def sampler(kinds: list[int], options: Priorities | None = None) -> PrioritySampler:
    made = PrioritySampler(options or Priorities(), np.array(kinds, np.uint8))
    made.touched += range(len(kinds))
    return made


def frequencies(by: PrioritySampler, slots: int, batches: int = 400) -> Tensor:
    """Share of each slot in many draws of 50."""
    return torch.stack([by.draw(50, 0.0)[0].bincount(minlength=slots) for _ in range(batches)]).sum(0) / (50 * batches)


def test_probabilities_and_weights_are_those_of_the_paper() -> None:
    """Errors 1, -3, 7 with epsilon 1 and alpha 1/2: p^alpha = sqrt 2, 2, sqrt 8; weights to the power -1/2."""
    by = sampler([1, 1, 1], Priorities(alpha=0.5, beta=0.5, epsilon=1.0))
    by.update(torch.tensor([0, 1, 2]), torch.tensor([1.0, -3.0, 7.0]))
    p = torch.tensor([2**0.5, 2.0, 8**0.5])
    probability = p / p.sum()
    assert torch.allclose(frequencies(by, 3), probability, atol=0.01)
    slot, weight = by.draw(30, progress=0.0)
    expected = (3 * probability) ** -0.5
    assert set(slot.tolist()) == {0, 1, 2}
    assert torch.allclose(weight, (expected / expected.max())[slot])
    assert torch.allclose(weight[slot == 2], torch.tensor(2**-0.5))  # (sqrt 8 / sqrt 2)^-1/2
    assert weight.dtype == torch.float32
    assert slot.dtype == torch.int64


@pytest.mark.parametrize(("progress", "exponent"), [(0.0, 0.4), (0.5, 0.7), (1.0, 1.0)])
def test_beta_grows_linearly_to_one(progress: float, exponent: float) -> None:
    by = sampler([1, 1], Priorities(alpha=1.0, beta=0.4, epsilon=1.0))
    by.update(torch.tensor([0, 1]), torch.tensor([0.0, 3.0]))
    slot, weight = by.draw(20, progress)
    assert torch.allclose(weight[slot == 1], torch.tensor(4.0**-exponent))
    assert torch.equal(weight[slot == 0], torch.ones_like(weight[slot == 0]))


def test_each_part_of_the_sum_gives_one_transition() -> None:
    by = sampler([1] * 8)
    for _ in range(20):
        assert by.draw(8, 0.0)[0].tolist() == list(range(8))


def test_new_transitions_get_the_largest_priority_so_far() -> None:
    by = sampler([1, 1, 1, 0], Priorities(alpha=1.0, epsilon=1.0))
    by.update(torch.tensor([0, 1, 2]), torch.tensor([4.0, 0.0, 0.0]))
    by.update(torch.tensor([0]), torch.tensor([1.0]))  # the largest was 5, and still counts
    by._kind[3] = 1
    by.touched.append(3)
    assert torch.allclose(frequencies(by, 4), torch.tensor([2.0, 1.0, 1.0, 5.0]) / 9, atol=0.01)


def test_the_largest_priority_is_remembered_in_the_state() -> None:
    by, restored = sampler([1, 1]), sampler([1, 1])
    by.update(torch.tensor([0]), torch.tensor([32.0]))
    by.update(torch.tensor([0]), torch.tensor([0.0]))
    restored.load_state_dict(by.state_dict())
    for each in (by, restored):
        each.touched.append(1)  # written anew
    assert torch.equal(restored.state_dict()["priority"], by.state_dict()["priority"])
    assert by.state_dict()["priority"][1] == pytest.approx(8.0)  # 32^0.6


def test_slots_without_a_transition_are_never_drawn_whatever_is_said_of_them() -> None:
    by = sampler([1, 0, 2, 1])
    by.update(torch.tensor([1, 0]), torch.tensor([100.0, 1.0]))
    by._kind[3] = 0
    by.touched.append(3)
    assert set(by.draw(200, 0.0)[0].tolist()) == {0, 2}


def test_of_a_transition_that_occurs_twice_the_last_error_counts() -> None:
    by = sampler([1, 1], Priorities(alpha=1.0, epsilon=1.0))
    by.update(torch.tensor([0, 1, 0]), torch.tensor([9.0, 0.0, 2.0]))
    assert by.state_dict()["priority"].tolist() == [3.0, 1.0]


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_not_finite_is_refused(error: float) -> None:
    with pytest.raises(UserError, match="diverged"):
        sampler([1, 1]).update(torch.tensor([0]), torch.tensor([error]))


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"beta": 2.0}, {"epsilon": 0.0}])
def test_exponents_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"prioritized.*alpha and beta in \[0, 1\]"):
        Priorities(**wrong)
