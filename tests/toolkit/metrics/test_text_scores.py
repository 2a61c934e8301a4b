"""Perplexity and bits per byte, of batches of unlike size."""

import math

import pytest
import torch
from torchmetrics.text import Perplexity as Reference

from toolkit.metrics.text_scores import BitsPerByte, Perplexity


def test_perplexity_matches_torchmetrics() -> None:
    ours, theirs = Perplexity(), Reference(ignore_index=-100)
    for length in (3, 17):
        logits, target = torch.randn(2, length, 7), torch.randint(7, (2, length))
        target[0, 0] = -100
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
        ours.update(nats=nats, tokens=(target != -100).sum())
        theirs.update(logits, target)
    torch.testing.assert_close(ours.compute(), theirs.compute())


def test_bits_per_byte_does_not_depend_on_the_tokens() -> None:
    """A uniform byte costs eight bits, whether two of them are one token or two."""
    score = BitsPerByte()
    score.update(nats=torch.tensor(4 * math.log(256)), size=torch.tensor(4))
    score.update(nats=torch.tensor(3 * math.log(256**2)), size=torch.tensor(6))
    assert float(score.compute()) == pytest.approx(8)
