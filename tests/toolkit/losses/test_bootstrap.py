import torch

from toolkit.losses.bootstrap import bootstrap_loss


def test_matches_hand_computed_values() -> None:
    prediction = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([[5.0, 0.0], [4.0, 3.0], [-2.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 2 - 2 * 24 / 25, 4.0], dtype=torch.float64)
    torch.testing.assert_close(bootstrap_loss(prediction, target), expected)


def test_is_the_squared_distance_of_unit_vectors() -> None:
    p, z = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = p / p.norm(dim=1, keepdim=True) - z / z.norm(dim=1, keepdim=True)
    torch.testing.assert_close(bootstrap_loss(p, z), unit.square().sum(dim=1))


def test_no_gradient_flows_into_the_target() -> None:
    p, z = (torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (0, 1))
    bootstrap_loss(p, z).sum().backward()
    assert z.grad is None
    assert p.grad is not None
    assert p.grad.abs().sum() > 0
