"""RNN and GPT: nothing from the future, and the same by pieces as at once."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from toolkit.errors import UserError
from toolkit.language.networks.gpt import GPT, attend, rotate
from toolkit.language.networks.language_network import LanguageNetwork
from toolkit.language.networks.rnn import RNN

V, T = 11, 12
NETWORKS: dict[str, Callable[[], LanguageNetwork]] = {
    "gpt": lambda: GPT(V, T, dim=16, depth=2, heads=2),
    "gpt rotary": lambda: GPT(V, T, dim=16, depth=2, heads=2, positions="rotary", bias=True, qk_norm=True),
    "gpt relu2": lambda: GPT(V, T, dim=16, depth=2, heads=2, activation="relu2", tied=False),
    "lstm": lambda: RNN(V, "lstm", hidden=16, layers=2),
    "gru": lambda: RNN(V, "gru", hidden=16, embedding=8),
    "tied": lambda: RNN(V, "gru", hidden=16, embedding=8, tied=True),
}
everyone = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture
def token() -> torch.Tensor:
    return torch.randint(V, (3, T))


def built(build: Callable[[], LanguageNetwork]) -> LanguageNetwork:
    """In float64, with weights large enough for differences to show."""
    net = build().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


@everyone
def test_a_future_token_changes_no_earlier_logit(build: Callable[[], LanguageNetwork], token: torch.Tensor) -> None:
    net = built(build)
    before, _ = net(token)
    for t in range(T):
        changed = token.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after, _ = net(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-12)
        assert (after[:, t] - before[:, t]).abs().amax() > 1e-3


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_attention_on_a_cpu_is_computed_in_float32_under_autocast(
    positions: Literal["learned", "rotary"], token: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    whole = F.scaled_dot_product_attention

    def noted(q: torch.Tensor, *args: Any) -> torch.Tensor:
        seen.append((q.dtype, torch.is_autocast_enabled("cpu")))
        return whole(q, *args)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", noted)
    with torch.autocast("cpu", torch.bfloat16):
        GPT(V, T, dim=16, depth=1, heads=2, positions=positions)(token)
    assert seen == [(torch.float32, False)]


@everyone
@pytest.mark.parametrize("pieces", [[1] * T, [5, 1, 6], [12], [4, 8]])
def test_reading_in_pieces_equals_reading_at_once(
    build: Callable[[], LanguageNetwork], token: torch.Tensor, pieces: list[int]
) -> None:
    """What the cache of a GPT and the carried state of an RNN are for."""
    net = built(build)
    whole, _ = net(token)
    state, made = net.empty_state(len(token)), []
    for piece in token.split(pieces, dim=1):
        logits, after = net(piece, state)
        assert after is not None
        made.append(logits)
        state = after
    torch.testing.assert_close(torch.cat(made, dim=1), whole, rtol=0, atol=1e-10)


@everyone
def test_every_parameter_has_a_gradient(build: Callable[[], LanguageNetwork], token: torch.Tensor) -> None:
    net = built(build)
    logits, _ = net(token)
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@everyone
def test_an_untrained_network_knows_nothing(build: Callable[[], LanguageNetwork], token: torch.Tensor) -> None:
    logits, _ = build()(token)
    assert logits.shape == (3, T, V)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), token.flatten())
    assert float(loss.detach()) == pytest.approx(math.log(V), abs=0.5)


def test_embeddings_are_the_logits_weights_if_tied() -> None:
    for tied, untied in ((GPT(V, T, 16, 1, 2), GPT(V, T, 16, 1, 2, tied=False)), (RNN(V, tied=True), RNN(V))):
        sizes = [sum(parameter.numel() for parameter in net.parameters()) for net in (tied, untied)]
        assert sizes[1] - sizes[0] >= V * 16


def test_gpt_starts_as_gpt_2() -> None:
    net = GPT(V, T, dim=256, depth=8, heads=4, bias=True)
    weights = net.state_dict()
    assert float(weights["blocks.0.attention.qkv.weight"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(weights["blocks.3.mlp.proj.weight"].std()) == pytest.approx(0.02 / 4, rel=0.05)
    assert not weights["blocks.0.mlp.fc.bias"].any()


def test_rotation_depends_on_the_distance_alone() -> None:
    angles = GPT(V, 20, dim=8, heads=1, depth=1, positions="rotary").double().angles
    assert angles is not None
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def product(i: int, j: int) -> torch.Tensor:
        return (rotate(q, angles[:, i : i + 1]) * rotate(k, angles[:, j : j + 1])).sum()

    torch.testing.assert_close(product(3, 1), product(12, 10), rtol=0, atol=1e-5)
    assert (product(3, 1) - product(3, 2)).abs() > 1e-3


def test_attention_in_bfloat16_is_that_of_float32_on_a_cpu() -> None:
    q, k, v = torch.randn(3, 2, 2, T, 8).bfloat16()
    exact = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = attend(q, k, v, None, 0.0, is_causal=True)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, exact.bfloat16())


def test_mistakes() -> None:
    with pytest.raises(UserError, match="heads: 3 does not divide dim"):
        GPT(V, T, dim=16, heads=3)
    with pytest.raises(UserError, match="must be even, got 6 / 2"):
        GPT(V, T, dim=6, heads=2, positions="rotary")
    with pytest.raises(UserError, match="need sizes of at least 1"):
        GPT(V, 0)
    with pytest.raises(UserError, match="13 tokens, but block_size is 12"):
        GPT(V, T, dim=16, heads=2)(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(UserError, match=r"0 <= dropout < 1, got .*dropout 1"):
        RNN(V, dropout=1.0)
