from typing import NamedTuple

import pytest

from toolkit.secrets import MASK, mask, mask_text, mask_words


@pytest.mark.parametrize(
    "key", ["api_key", "WANDB_API_KEY", "password", "hf_token", "aws_secret", "token", "client.secret"]
)
def test_values_of_secret_keys_are_masked(key: str) -> None:
    assert mask({"a": [{key: "value"}]}) == {"a": [{key: MASK}]}


@pytest.mark.parametrize("key", ["pad_token", "tokenizer", "max_tokens", "keyboard", "monkey", "secretary"])
def test_other_keys_are_not(key: str) -> None:
    assert mask({key: "value", f"{key}_2": 3}) == {key: "value", f"{key}_2": 3}


@pytest.mark.parametrize(
    "word", ["hf_abcdefghijklmnopqrstuvwx", "ghp_" + "a1" * 18, "AKIAABCDEFGHIJKLMNOP", "sk-abcdefghijklmnopqr"]
)
def test_words_that_look_like_tokens_are_masked(word: str) -> None:
    assert mask_text(f"x {word} y") == f"x {MASK} y"
    assert mask({"note": word}) == {"note": MASK}


def test_values_of_the_environment_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "canary-in-the-mine")
    monkeypatch.setenv("HOME_PASSWORD", "abc")  # too short to look for
    assert mask_text("a canary-in-the-mine abc") == f"a {MASK} abc"


def test_structures_stay_what_they_are() -> None:
    class Pair(NamedTuple):
        first: str
        second: int

    masked = mask({"a": Pair("hf_abcdefghijklmnopqrstuvwx", 1), "b": (1, ["x"])})
    assert masked == {"a": Pair(MASK, 1), "b": (1, ["x"])}
    assert isinstance(masked["a"], Pair)


def test_options_of_a_command_line() -> None:
    words = ["fit", "--data.api_key", "x", "--model.password=y", "--lr", "1"]
    assert mask_words(words) == ["fit", "--data.api_key", MASK, f"--model.password={MASK}", "--lr", "1"]
