"""Tokenizers: any text comes back, whatever they were trained on."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.language.byte_pair_tokenizer import BytePairTokenizer
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.tokenizer import Tokenizer, restore

TEXTS = ["To be, or not to be:\nthat is the question.", "naïve 漢字 \U0001f600 e\u0301\r\n\x00\ufeff"]
TRAINED = [
    tokenizer.trained(TEXTS[:number], end)
    for tokenizer in (CharTokenizer(), BytePairTokenizer(300))
    for number, end in ((1, None), (2, "\n"))
]
everyone = pytest.mark.parametrize("tokenizer", TRAINED, ids=lambda t: f"{type(t).__name__}-{t.end!r}")


@everyone
@settings(deadline=None, max_examples=200)
@given(text=st.text())
def test_round_trip_on_arbitrary_unicode(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens.tolist()) == text
    assert sum(tokenizer.token_bytes()[token] for token in tokens) == len(text.encode())
    assert tokens.max(initial=0) < tokenizer.size


@everyone
def test_restored_from_a_checkpoint_s_plain_values(tokenizer: Tokenizer, tmp_path) -> None:
    torch.save(tokenizer.vocabulary(), tmp_path / "file")
    again = restore(torch.load(tmp_path / "file", weights_only=True))
    assert type(again) is type(tokenizer)
    assert again.spelling == tokenizer.spelling
    for text in TEXTS:
        np.testing.assert_array_equal(again.encode(text), tokenizer.encode(text))


def test_characters_are_numbered_in_their_order() -> None:
    tokenizer = CharTokenizer(fallback=False).trained(["cab"], None)
    assert tokenizer.encode("abc").tolist() == [0, 1, 2]
    assert tokenizer.end_token is None
    with pytest.raises(UserError, match=r"'d' at position 2 is not in the training split.*fallback: true"):
        tokenizer.encode("abd")


def test_end_is_the_last_token_and_stands_for_its_text() -> None:
    tokenizer = CharTokenizer(fallback=False).trained(["ab"], "\n")
    assert tokenizer.end_token == 2
    assert tokenizer.token_bytes() == [1, 1, 1]
    assert tokenizer.decode([0, 2, 1]) == "a\nb"


def test_frequent_pairs_are_merged() -> None:
    tokenizer = BytePairTokenizer(258).trained(["ababab abab"], None)
    assert tokenizer.size == 258
    assert len(tokenizer.encode("abab")) < 4


def test_bytes_that_are_no_text_are_replaced() -> None:
    tokenizer = CharTokenizer().trained(["a"], None)
    assert tokenizer.decode([0, 1 + 0xFF]) == "a\ufffd"


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="vocabulary_size: need at least 256"):
        BytePairTokenizer(100)
    with pytest.raises(UserError, match="in no allowed package"):
        restore({"class_path": "subprocess.Popen", "init_args": {}})
    with pytest.raises(UserError, match="is no Tokenizer"):
        restore({"class_path": "torch.nn.Linear", "init_args": {}})
    with pytest.raises(UserError, match="cannot be imported"):
        restore({"class_path": "toolkit.nowhere.Tokenizer", "init_args": {}})
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r'pip install "fulgurite\[language\]"'):
        BytePairTokenizer()
