"""Words and their pieces: what counts as one, reference values, what shares its evidence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.networks.subword_bag import SubwordBag
from toolkit.language.networks.subwords import Subwords, Words, bucket, pairs
from toolkit.language.tokenizer import Tokenizer

CHARACTERS = CharTokenizer("".join(sorted(set(" '-.,abcdefghijklmnopqrstuvwxyzA1é\t"))))


class Syllables(CharTokenizer):
    """Tokens of several characters, some of which begin with a space, as those of byte pairs do."""

    def spell(self) -> list[bytes]:
        return [b"the", b" cat", b"s", b" "]


def padded(*texts: str, tokenizer: Tokenizer = CHARACTERS) -> tuple[Tensor, Tensor]:
    tokens = [torch.from_numpy(tokenizer.encode(text).astype("int64")) for text in texts]
    length = torch.tensor([len(token) for token in tokens])
    return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True), torch.arange(int(length.max())) < length[:, None]


def words_of(*texts: str, shortest: int = 3, longest: int = 4) -> Words:
    words: Words = Subwords(CHARACTERS.vocabulary(), shortest, longest)(*padded(*texts))
    return words


def test_words_are_runs_of_letters_or_signs() -> None:
    words = words_of("the cat's  at--", "   ", "\té1 -a")
    assert words.row.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    same = words_of("the", "cat's", "at", "--", " ", "é1", "-", "a")
    assert torch.equal(words.code, same.code)
    assert torch.equal(words.ngram, same.ngram)
    assert len(words.code.unique()) == 8


def test_ngrams_are_those_of_the_word_between_its_marks() -> None:
    """Of <cat> with three tokens: <ca, cat, at>; with four: <cat, cat>."""
    words = words_of("cat", "concat", "atlas", "a")
    assert words.length.tolist() == [5, 11, 9, 1]
    cat, concat, atlas, a = (set(part.tolist()) for part in words.ngram.split(words.length.tolist()))
    assert len(cat & concat) == 3  # cat, at>, cat>
    assert not cat & atlas  # whose at is at its begin
    assert a == set(words_of("a", shortest=2, longest=9).ngram.tolist()) & a
    assert words_of("a", "cat", shortest=6, longest=6).length.tolist() == [0, 0]


def test_tokens_that_bring_their_space_begin_a_word() -> None:
    split = Subwords({"class_path": f"{__name__}.Syllables", "init_args": {"fallback": False}}, 2, 3)
    words = split(torch.tensor([[0, 1, 2, 3, 1]]), torch.ones(1, 5, dtype=torch.bool))
    assert words.length.tolist() == [3, 5, 3]  # the | cat s | cat
    assert words.code[1] != words.code[2]


def test_pairs_stay_in_their_text() -> None:
    code, row = pairs(words_of("a b c", "d", "b c", "c b"))
    assert row.tolist() == [0, 0, 2, 3]
    assert code[1] == code[2]
    assert len(code.unique()) == 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_every_text_has_a_word(texts: list[str]) -> None:
    words = words_of(*texts)
    assert words.row.unique().tolist() == list(range(len(texts)))
    assert len(words.code) == len(words.length)
    assert words.length.sum() == len(words.ngram)
    apart = [words_of(text).code for text in texts]
    assert torch.equal(words.code, torch.cat(apart))


def test_the_sum_s_reference_value() -> None:
    """Words and pairs, each once: a, b, a b, b a; n-grams of two: <a, a>, <b, b>."""
    net = SubwordBag(2, CHARACTERS.vocabulary(), 3, shortest=2, longest=2, word_scale=2.0).eval()
    torch.nn.init.normal_(net.words.weight)
    torch.nn.init.normal_(net.ngrams.weight)
    words = words_of("a b a", shortest=2, longest=2)
    word = net.words.weight[bucket(torch.cat([words.code[:2], pairs(words)[0]]), net.buckets)].sum(dim=0) / 4**0.5
    ngram = net.ngrams.weight[bucket(words.ngram[:4], net.buckets)].sum(dim=0) / 4**0.5
    torch.testing.assert_close(net.forward_features(*padded("a b a"))[0], 2 * word + ngram)
    assert torch.equal(SubwordBag(2, CHARACTERS.vocabulary()).forward_features(*padded("a")), torch.zeros(1, 10))


def test_a_word_is_known_by_its_parts() -> None:
    torch.manual_seed(0)
    net = SubwordBag(2, CHARACTERS.vocabulary(), buckets=4096, feature_dropout=0.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        logits = net(*padded("a gripping tale", "enjoyable", "a dull tale", "boredom"))
        torch.nn.functional.cross_entropy(logits, torch.tensor([1, 1, 0, 0])).backward()
        optimizer.step()
    assert net(*padded("grippingly", "unenjoyable", "dulls", "bored")).argmax(dim=1).tolist() == [1, 1, 0, 0]


def test_left_out_features_are_drawn_anew() -> None:
    net = SubwordBag(2, CHARACTERS.vocabulary(), 3, feature_dropout=0.5)
    torch.nn.init.normal_(net.words.weight)
    text = padded("what a film", "b")
    seen = torch.stack([net.forward_features(*text) for _ in range(20)])
    assert seen.isfinite().all()
    assert len(seen[:, 0].detach().unique(dim=0)) > 5
    net.eval()
    assert torch.equal(net.forward_features(*text), net.forward_features(*text))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="need 2 <= shortest <= longest n-grams, got 4 and 3"):
        SubwordBag(2, CHARACTERS.vocabulary(), shortest=4, longest=3)
    with pytest.raises(UserError, match=r"word_scale > 0 and 0 <= feature_dropout < 1, got 5, 0.0 and 0.3"):
        SubwordBag(2, CHARACTERS.vocabulary(), buckets=5, word_scale=0.0)
