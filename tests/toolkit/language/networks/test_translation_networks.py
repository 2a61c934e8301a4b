"""Both translators: nothing from the future or from padding, and the same by pieces as at once."""

from collections.abc import Callable

import pytest
import torch

from toolkit.errors import UserError
from toolkit.language.networks.attention_gru import AttentionGRU
from toolkit.language.networks.short_attention import attend_short
from toolkit.language.networks.translation_network import TranslationNetwork
from toolkit.language.networks.translation_transformer import TranslationTransformer, sinusoids

V, S, T = 11, 6, 7
TINY = {"dim": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 2, "hidden": 16}
NETWORKS: dict[str, Callable[[], TranslationNetwork]] = {
    "transformer": lambda: TranslationTransformer(V, V, **TINY),
    "transformer untied": lambda: TranslationTransformer(V + 3, V, tied="none", **TINY),
    "transformer half tied": lambda: TranslationTransformer(V + 3, V, tied="target", **TINY),
    "gru": lambda: AttentionGRU(V, V, embedding=8, hidden=16),
    "gru tied": lambda: AttentionGRU(V, V, embedding=8, hidden=16, tied=True),
}
everyone = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
ALL = torch.ones(3, T, dtype=torch.bool)


@pytest.fixture
def texts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randint(V, (3, S)), torch.tensor([S, 2, 4]), torch.randint(V, (3, T))


def built(build: Callable[[], TranslationNetwork]) -> TranslationNetwork:
    """In float64, with weights large enough for differences to show."""
    net = build().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


@everyone
def test_a_future_token_changes_no_earlier_logit(build: Callable[[], TranslationNetwork], texts: tuple) -> None:
    net = built(build)
    source, length, token = texts
    before = net(source, length, token, ALL).view(3, T, V)
    for t in range(T):
        changed = token.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after = net(source, length, changed, ALL).view(3, T, V)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-12)
        assert (after[:, t] - before[:, t]).abs().amax() > 1e-3


@everyone
@pytest.mark.parametrize("pieces", [[1] * T, [3, 1, 3], [T]])
def test_decoding_with_the_cache_equals_the_full_forward(
    build: Callable[[], TranslationNetwork], texts: tuple, pieces: list[int]
) -> None:
    net = built(build)
    source, length, token = texts
    memory = net.encode(source, length)
    cache, made = net.empty_cache(memory), []
    for piece in token.split(pieces, dim=1):
        feature, cache = net.decode(piece, memory, cache)
        made.append(net.logits(feature))
    torch.testing.assert_close(torch.cat(made, 1).view(-1, V), net(source, length, token, ALL), rtol=0, atol=1e-12)


@everyone
def test_amount_and_content_of_padding_change_nothing(build: Callable[[], TranslationNetwork], texts: tuple) -> None:
    net = built(build)
    source, length, token = texts
    before = net(source, length, token, ALL).view(3, T, V)
    for row in range(3):
        n = int(length[row])
        alone = net(source[row : row + 1, :n], length[row : row + 1], token[row : row + 1], ALL[:1])
        torch.testing.assert_close(alone, before[row], rtol=0, atol=1e-12)
    inside = torch.arange(S + 4) < length[:, None]
    more = torch.nn.functional.pad(source, (0, 4))
    for filling in (0, V - 1):
        after = net(more.where(inside, filling), length, token, ALL).view(3, T, V)
        torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@everyone
def test_what_does_not_count_costs_no_logits_and_a_source_token_matters(
    build: Callable[[], TranslationNetwork], texts: tuple
) -> None:
    net = built(build)
    source, length, token = texts
    counts = torch.rand(3, T) < 0.5
    logits = net(source, length, token, counts)
    torch.testing.assert_close(logits, net(source, length, token, ALL).view(3, T, V)[counts])
    other = net((source + 1) % V, length, token, counts)
    assert (other - logits).abs().amax() > 1e-3


@everyone
def test_attention_is_a_distribution_over_the_text(build: Callable[[], TranslationNetwork], texts: tuple) -> None:
    net = built(build)
    source, length, token = texts
    weights: list[torch.Tensor] = []
    net.decode(token, net.encode(source, length), weights=weights)
    (weight,) = weights
    assert weight.shape == (3, T, S)
    torch.testing.assert_close(weight.sum(dim=2).double(), torch.ones(3, T).double())
    assert not weight[1, :, 2:].any()


@everyone
def test_every_parameter_has_a_gradient(build: Callable[[], TranslationNetwork], texts: tuple) -> None:
    net = built(build).train()
    net(*texts, ALL).logsumexp(dim=1).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_short_attention_equals_torch_s() -> None:
    q, k, v = torch.randn(3, 2, 2, 5, 8).double().unbind(0)
    mask = (torch.arange(5) < torch.tensor([3, 5])[:, None])[:, None, None]
    for options in ({"attn_mask": mask}, {"is_causal": True}, {}):
        reference = torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)
        ours = attend_short(q, k, v, options.get("attn_mask"), options.get("is_causal", False))
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


def test_positions_go_on_where_they_ended() -> None:
    like = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(sinusoids(3, 4, 8, like), sinusoids(0, 7, 8, like)[3:])
    assert sinusoids(0, 1, 4, like).tolist() == [[0, 0, 1, 1]]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="'all' needs a joint vocabulary, but they have 5 and 6 tokens"):
        TranslationTransformer(5, 6)
    with pytest.raises(UserError, match="3 does not divide dim, which is 8"):
        TranslationTransformer(5, 5, dim=8, heads=3)
    with pytest.raises(UserError, match="decoder_depth 0"):
        TranslationTransformer(5, 5, decoder_depth=0)
    with pytest.raises(UserError, match="hidden 0"):
        AttentionGRU(5, 5, hidden=0)
    with pytest.raises(UserError, match="need a probability"):
        AttentionGRU(5, 5, dropout=1.0)
