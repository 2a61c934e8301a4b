import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.optim.muon_sgd import MuonSGD, orthogonalize


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    """Against the exact polar factor U V^T from the singular value decomposition."""
    matrix = torch.randn(shape)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalize(matrix, steps=5)
    inner = (u.T @ found @ v.T).diagonal()
    large = s > 0.1 * s[0]
    assert inner[large].min() > 0.6
    assert inner.max() < 1.3


def test_orthogonalize_is_scale_invariant() -> None:
    matrix = torch.randn(4, 9)
    torch.testing.assert_close(orthogonalize(matrix), orthogonalize(1000 * matrix), atol=2e-2, rtol=0)


def test_vectors_and_matrices_move_as_torch_s_sgd() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    a = MuonSGD(ours.parameters(), matrix_lr=0.5, vector_lr=0.5, sgd_momentum=0.9, weight_decay=0.05)
    b = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1)
    for step in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        for net, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_filters_keep_their_norm_before_the_step() -> None:
    conv = nn.Conv2d(3, 8, 3, bias=False)
    optimizer = MuonSGD(conv.parameters(), lr=0.0)
    conv(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert conv.weight.norm().item() == pytest.approx(8**0.5)


def test_state_survives_a_checkpoint() -> None:
    def train(steps: int, split: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
        optimizer = MuonSGD(net.parameters())
        for step in range(steps):
            if step == split:
                state = optimizer.state_dict()
                optimizer = MuonSGD(net.parameters())
                optimizer.load_state_dict(state)
            x = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        return nn.utils.parameters_to_vector(net.parameters())

    assert torch.equal(train(4, None), train(4, 2))


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("sgd_momentum", 1.0)])
def test_bad_values_name_the_argument(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"MuonSGD.{name}"):
        MuonSGD(nn.Linear(2, 2).parameters(), **{name: value})
