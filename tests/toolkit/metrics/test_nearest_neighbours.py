import math

import torch

from datamodules.digits import DigitsDataModule
from toolkit.metrics.nearest_neighbours import NeighbourVote, bank_of


def unit(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_votes_are_weighed_by_nearness() -> None:
    """Two of class 1 at 30 degrees against one of class 0 at 0: many outvote one only if the temperature is high."""
    bank, label, query = unit(0, 30, -30), torch.tensor([0, 1, 1]), unit(0)
    weight = math.exp((math.cos(math.radians(30)) - 1) / 0.07)  # 0.147 each
    assert 2 * weight < 1
    assert NeighbourVote(bank, label, neighbours=3, temperature=0.07)(query).tolist() == [0]
    assert NeighbourVote(bank, label, neighbours=3, temperature=1.0)(query).tolist() == [1]
    assert NeighbourVote(bank, label, neighbours=1, temperature=1.0)(query).tolist() == [0]


def test_lengths_do_not_matter_and_unlabelled_samples_do_not_vote() -> None:
    bank, label = unit(0, 90, 45) * torch.tensor([[5.0], [0.1], [1.0]]), torch.tensor([2, 4, -100])
    assert NeighbourVote(bank, label, neighbours=9)(unit(44, 46, 10) * 3).tolist() == [2, 4, 2]


def test_bank_is_spread_over_the_training_set() -> None:
    data = DigitsDataModule()
    image, label = bank_of(data, size=100)
    whole, labels = data.dataset("train").read(torch.arange(len(data.dataset("train"))))
    step = len(whole) / 100
    places = [int(i * step) for i in range(100)]
    torch.testing.assert_close(image, whole[places], rtol=0, atol=0)
    torch.testing.assert_close(label, labels[places], rtol=0, atol=0)
    assert len(bank_of(data, size=10**6)[1]) == len(whole)
