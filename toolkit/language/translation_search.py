"""How a translation is chosen: the most probable token each time, or a beam of hypotheses.

Shape legend: B batch, K hypotheses of a text, M rows = B K, L tokens of the longest, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.language.networks.translation_network import Cache, Memory, TranslationNetwork
from toolkit.precision import at_least_float32
from toolkit.types import IGNORE_LABEL


class Hypotheses(NamedTuple):
    """One translation of each text."""

    token: Tensor
    """``(B, L)``, int64, without the end; `IGNORE_LABEL` behind it."""
    score: Tensor
    """``(B,)``, float32, log probability with the end, in nats; not divided by the length."""


def longest_translation(source_length: Tensor) -> Tensor:
    """How many tokens a translation has at most, its end not counted: ``(B,)``, of each text's own length alone."""
    return 2 * source_length + 10


def greedy_search(net: TranslationNetwork, source: Tensor, source_length: Tensor, end: int) -> Hypotheses:
    """Take the most probable token, until it is the end.

    Args:
        net: The network.
        source: ``(B, S)``, int64.
        source_length: ``(B,)``, int64.
        end: The token that ends a text, and stands before its first token.
    """
    memory = net.encode(source, source_length)
    cache, limit = net.empty_cache(memory), longest_translation(source_length)
    token = source.new_full((len(source),), end)
    is_done = torch.zeros_like(token, dtype=torch.bool)
    score = torch.zeros(len(source), device=source.device)
    made: list[Tensor] = []
    while not is_done.all():
        log_probability, cache = _next(net, token, memory, cache)  # (B, V)
        token = log_probability.argmax(dim=1).where(limit > len(made), end)
        score += log_probability.gather(1, token[:, None])[:, 0].float().where(~is_done, 0.0)
        is_done = is_done | (token == end)
        made.append(token.where(~is_done, IGNORE_LABEL))
    return Hypotheses(torch.stack(made[:-1] or made, dim=1), score)


def beam_search(
    net: TranslationNetwork, source: Tensor, source_length: Tensor, end: int, beam: int, length_penalty: float
) -> Hypotheses:
    """Keep the best K beginnings; of the ended ones the best wins.

    Hypotheses are compared by their log probability over ``((5 + length) / 6) ** length_penalty`` (Wu et al., "Google's
    Neural Machine Translation System", 2016), the end counted. An ended one keeps its place until K others are better.
    A beam of one is `greedy_search`.

    Args:
        net: The network.
        source: ``(B, S)``, int64.
        source_length: ``(B,)``, int64.
        end: The token that ends a text, and stands before its first token.
        beam: K.
        length_penalty: 0 compares probabilities, which favours short texts.
    """
    B, K = len(source), beam
    memory = net.encode(source, source_length)
    cache = tuple(part.repeat_interleave(K, dim=0) for part in net.empty_cache(memory))
    memory = tuple(part.repeat_interleave(K, dim=0) for part in memory)  # the same for all hypotheses of a text
    limit = longest_translation(source_length)[:, None].expand(B, K)
    score = torch.full((B, K), -torch.inf, device=source.device)
    score[:, 0] = 0.0  # the others begin as copies of the first
    is_done = torch.zeros(B, K, dtype=torch.bool, device=source.device)
    length = torch.zeros(B, K, dtype=torch.int64, device=source.device)
    last = source.new_full((B, K), end)
    tokens = source.new_empty(B, K, 0)
    first_row = torch.arange(B, device=source.device)[:, None] * K  # (B, 1)
    while not is_done.all():
        log_probability, cache = _next(net, last.flatten(), memory, cache)  # (M, V)
        V = log_probability.shape[1]
        step = log_probability.float().view(B, K, V)
        only_end = torch.full_like(step, -torch.inf)
        only_end[:, :, end] = step[:, :, end].where(~is_done, 0.0)
        must_end = is_done | (limit <= tokens.shape[2])
        total = score[:, :, None] + step.where(~must_end[:, :, None], only_end)  # (B, K, V)
        longer = length + (~is_done).long()
        compared = total / _penalty(longer, length_penalty)[:, :, None]
        place = compared.flatten(1).topk(K, dim=1).indices  # (B, K)
        parent, last = place // V, place % V
        score = total.flatten(1).gather(1, place)
        length, was_done = longer.gather(1, parent), is_done.gather(1, parent)
        is_done = was_done | (last == end)
        written = last.where(~is_done, IGNORE_LABEL)
        before = tokens.gather(1, parent[:, :, None].expand_as(tokens))
        tokens = torch.cat([before, written[:, :, None]], dim=2)  # (B, K, L)
        rows = (first_row + parent).flatten()
        cache = tuple(part[rows] for part in cache)
    best = (score / _penalty(length, length_penalty)).argmax(dim=1)  # (B,)
    chosen = tokens[torch.arange(B, device=source.device), best]
    return Hypotheses(chosen[:, : max(1, chosen.shape[1] - 1)], score.gather(1, best[:, None])[:, 0])


def _next(net: TranslationNetwork, token: Tensor, memory: Memory, cache: Cache) -> tuple[Tensor, Cache]:
    """Log probabilities ``(M, V)`` of the token behind the last one."""
    feature, after = net.decode(token[:, None], memory, cache)
    assert after is not None
    return at_least_float32(net.logits(feature[:, -1])).log_softmax(dim=1), after


def _penalty(length: Tensor, power: float) -> Tensor:
    return ((5 + length) / 6) ** power
