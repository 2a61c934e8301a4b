"""The projection of a distribution of returns, against masses divided by hand."""

import pytest
import torch

from toolkit.losses.categorical_projection import categorical_divergence, categorical_projection

ATOMS = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])


def project(probability: list[float], reward: float, discount: float) -> list[float]:
    projected = categorical_projection(
        torch.tensor([probability]), torch.tensor([reward]), torch.tensor([discount]), ATOMS
    )
    return [round(value, 6) for value in projected[0].tolist()]


@pytest.mark.parametrize(
    ("case", "probability", "reward", "discount", "expected"),
    [
        ("stays", [0.1, 0.2, 0.4, 0.2, 0.1], 0.0, 1.0, [0.1, 0.2, 0.4, 0.2, 0.1]),
        ("a whole atom up, what is beyond stays at the end", [0.1, 0.2, 0.4, 0.2, 0.1], 0.5, 1.0, [0, 0.1, 0.2, 0.4, 0.3]),
        # 0.2 of the way from 0 to 0.5
        ("between two atoms, the nearer gets more", [0, 0, 1, 0, 0], 0.1, 1.0, [0, 0, 0.8, 0.2, 0]),
        # -1 and 1 become -0.25 and 0.75
        ("shrunk and moved", [0.6, 0, 0, 0, 0.4], 0.25, 0.5, [0, 0.3, 0.3, 0.2, 0.2]),
        ("beyond the upper end", [0.3, 0, 0, 0, 0.7], 9.0, 0.9, [0, 0, 0, 0, 1]),
        ("beyond the lower end", [0.3, 0, 0, 0, 0.7], -9.0, 0.9, [1, 0, 0, 0, 0]),
        ("nothing follows: all at the reward", [0.3, 0, 0.2, 0, 0.5], 0.4, 0.0, [0, 0, 0.2, 0.8, 0]),
        ("nothing follows, on an atom", [0.3, 0, 0.2, 0, 0.5], -0.5, 0.0, [0, 1, 0, 0, 0]),
        ("nothing follows, on the last atom", [0.3, 0, 0.2, 0, 0.5], 1.0, 0.0, [0, 0, 0, 0, 1]),
    ],
)  # fmt: skip
def test_hand_computed(
    case: str, probability: list[float], reward: float, discount: float, expected: list[float]
) -> None:
    assert project(probability, reward, discount) == pytest.approx(expected, abs=1e-6), case


def test_conserves_mass_and_inside_the_range_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(64, 51, generator=generator, dtype=torch.float64).softmax(dim=1)
    atoms = torch.linspace(-10, 10, 51, dtype=torch.float64)
    reward = 20 * torch.rand(64, generator=generator, dtype=torch.float64) - 10
    discount = torch.rand(64, generator=generator, dtype=torch.float64)
    projected = categorical_projection(probability, reward, discount, atoms)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(dim=1), torch.ones_like(reward), rtol=0, atol=1e-12)
    inside = reward.abs() + 10 * discount <= 10
    assert inside.any()
    mean = reward + discount * (probability @ atoms)
    torch.testing.assert_close((projected @ atoms)[inside], mean[inside], rtol=0, atol=1e-12)


def test_divergence_is_zero_at_the_target_and_pulls_towards_it() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(categorical_divergence(target, (target + 1e-300).log()), torch.zeros(2).double())
    logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    target.requires_grad_()
    loss = categorical_divergence(target, logits.log_softmax(dim=1)).sum()
    assert torch.autograd.grad(loss, target, allow_unused=True, retain_graph=True) == (None,)
    gradient = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(gradient, 1 / 3 - target.detach())  # that of the cross entropy
