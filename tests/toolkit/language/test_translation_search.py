"""Greedy and beam search over probabilities that are written down."""

import math

import pytest
import torch
from torch import Tensor

from toolkit.language.networks.translation_network import Cache, Memory, TranslationNetwork
from toolkit.language.networks.translation_transformer import TranslationTransformer
from toolkit.language.translation_search import beam_search, greedy_search, longest_translation

END = 3
ONE = torch.zeros(1, 4, dtype=torch.long), torch.tensor([4])


class Table(TranslationNetwork):
    """Probabilities of the next of four tokens by the tokens so far, which are its cache; else all alike."""

    def __init__(self, table: dict[tuple[int, ...], list[float]]) -> None:
        super().__init__()
        self.table = table

    def encode(self, source: Tensor, source_length: Tensor) -> Memory:
        return (source,)

    def empty_cache(self, memory: Memory) -> Cache:
        return (memory[0][:, :0],)

    def decode(
        self, token: Tensor, memory: Memory, cache: Cache | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Cache | None]:
        assert cache is not None
        so_far = torch.cat([cache[0], token], dim=1)
        rows = [self.table.get(tuple(row[1:]), [0.25] * 4) for row in so_far.tolist()]  # the first one is an end
        return torch.tensor(rows)[:, None], (so_far,)

    def logits(self, feature: Tensor) -> Tensor:
        return feature.log()


# The likelier first token leads into a fork, the other one to a certain end.
FORK = Table({(): [0.6, 0.4, 0.0, 0.0], (0,): [0.0, 0.5, 0.5, 0.0], (1,): [0.0, 0.0, 0.0, 1.0],
              (0, 1): [0.0, 0.0, 0.0, 1.0], (0, 2): [0.0, 0.0, 0.0, 1.0]})  # fmt: skip


def test_a_beam_finds_what_greedy_misses() -> None:
    greedy, beam = greedy_search(FORK, *ONE, END), beam_search(FORK, *ONE, END, beam=2, length_penalty=0.0)
    assert greedy.token.tolist() == [[0, 1]]
    assert greedy.score.exp().tolist() == pytest.approx([0.3])
    assert beam.token.tolist()[0][:1] == [1]
    assert beam.score.exp().tolist() == pytest.approx([0.4])


def test_a_length_penalty_favours_the_longer_text() -> None:
    """log 0.45 / 6/6 beats log 0.4 / (7/6) without a penalty only."""
    net = Table({(): [0.55, 0.0, 0.0, 0.45], (0,): [0.0, 0.75, 0.25, 0.0], (0, 1): [0.0, 0.0, 0.0, 1.0],
                 (0, 2): [0.0, 0.0, 0.0, 1.0]})  # fmt: skip
    short, long = (beam_search(net, *ONE, END, beam=3, length_penalty=p) for p in (0.0, 1.0))
    assert short.score.exp().tolist() == pytest.approx([0.45])
    assert (short.token < 0).all()  # empty
    assert math.log(0.4125) / (8 / 6) > math.log(0.45)
    assert long.token.tolist() == [[0, 1]]


def network() -> tuple[TranslationTransformer, Tensor, Tensor]:
    net = TranslationTransformer(9, 9, dim=16, heads=2, encoder_depth=1, decoder_depth=1).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net, torch.randint(9, (20, 5)), torch.randint(1, 6, (20,))


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    net, source, length = network()
    greedy = greedy_search(net, source, length, 8)
    beam = beam_search(net, source, length, 8, beam=1, length_penalty=0.7)
    assert torch.equal(greedy.token, beam.token)
    torch.testing.assert_close(greedy.score, beam.score)
    assert len({tuple(row) for row in greedy.token.tolist()}) > 5  # the network does not say the same to all


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 3])
def test_a_text_is_translated_alike_alone_and_among_others(beam: int) -> None:
    net, source, length = network()

    def search(rows: slice) -> list[list[int]]:
        found = beam_search(net, source[rows], length[rows], 8, beam, 1.0) if beam > 1 else greedy_search(
            net, source[rows], length[rows], 8
        )  # fmt: skip
        return [[token for token in row if token >= 0] for row in found.token.tolist()]

    assert search(slice(0, 20)) == [search(slice(row, row + 1))[0] for row in range(20)]


@torch.no_grad()
def test_a_score_is_the_log_probability_of_the_translation() -> None:
    net, source, length = network()
    found = beam_search(net, source, length, 8, beam=3, length_penalty=1.0)
    for row in range(20):
        text = found.token[row][found.token[row] >= 0]
        token = torch.cat([torch.tensor([8]), text])[None]
        n = length[row : row + 1]
        logits = net(source[row : row + 1, : int(n)], n, token, torch.ones_like(token, dtype=torch.bool))
        label = torch.cat([text, torch.tensor([8])])
        expected = logits.log_softmax(dim=1).gather(1, label[:, None]).sum()
        assert found.score[row].item() == pytest.approx(expected.item(), abs=1e-4)


def test_a_text_that_never_ends_is_ended() -> None:
    endless = Table({})
    endless.table = type("Always", (dict,), {"get": lambda self, key, default: [0.9, 0.05, 0.04, 0.01]})()
    limit = int(longest_translation(ONE[1])[0])
    for found in (greedy_search(endless, *ONE, END), beam_search(endless, *ONE, END, beam=2, length_penalty=0.0)):
        assert found.token.tolist()[0].count(0) <= limit
    assert greedy_search(endless, *ONE, END).token.tolist() == [[0] * limit]
