"""Aligned files: reading, splits, tokens, batches, and what is told when they are wrong."""

import datetime
import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.dictionary import Dictionary
from datamodules.parallel_files import read_pairs
from datamodules.parallel_text import ParallelTextDataModule
from datamodules.sampler import BatchIndex
from datamodules.translation_input import TranslationInputDataModule
from datamodules.written_dates import FORMS_A_DAY, written_dates
from toolkit.errors import UserError
from toolkit.language.byte_pair_tokenizer import BytePairTokenizer
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.tokenizer import restore
from toolkit.types import IGNORE_LABEL


def write(**files: str) -> None:
    for name, text in files.items():
        Path(name.replace("_", ".")).write_text(text, encoding="utf-8")


def of_lines(n: int = 30, **options: Any) -> ParallelTextDataModule:
    write(train_de="\n".join(f"Zeile {i}" for i in range(n)), train_en="\n".join(f"this is line {i}" for i in range(n)))
    options = {"tokenizer": CharTokenizer(), "batch_size": 4} | options
    return ParallelTextDataModule(["train.de", "train.en"], **options)


# Reading --------------------------------------------------------------------------------------------------------------


def test_two_files_one_file_and_gzip_are_the_same(workdir: Path) -> None:
    write(a_de="eins\nzwei\n", a_en=" one\ntwo \r\n", a_tsv="eins\tone\nzwei\ttwo\n")
    for name in ("a.de", "a.tsv"):
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
    Path("a.de").write_text("eins\nzwei\n", encoding="utf-8-sig")
    expected = [("eins", "one"), ("zwei", "two")]
    for files in (["a.de", "a.en"], ["a.de.gz", "a.en"], ["a.tsv"], ["a.tsv.gz"]):
        assert read_pairs(files, "data") == expected


def test_misaligned_files_name_counts_and_the_first_line_that_stands_alone(workdir: Path) -> None:
    write(a_de="eins\nzwei\n\ndrei\n", a_en="one\ntwo\nthree\n")
    with pytest.raises(UserError) as told:
        read_pairs(["a.de", "a.en"], "data.init_args.train")
    for part in ("data.init_args.train: the files are not aligned", "'a.de' has 4 lines, 'a.en' 3",
                 "Line 4 of 'a.de' stands alone: 'drei'", "Line 3 is the first that is empty in one of them"):  # fmt: skip
        assert part in str(told.value)


def test_an_empty_side_is_left_out_and_told(workdir: Path) -> None:
    write(a_de="eins\n\ndrei\n", a_en="one\ntwo\nthree\n")
    with pytest.warns(UserWarning, match="1 of 3 pairs of 'a.de' and 'a.en' have an empty side .* that of line 2"):
        assert read_pairs(["a.de", "a.en"], "data") == [("eins", "one"), ("drei", "three")]
    write(a_tsv="eins\tone\n\ttwo\nzwei\t\ndrei\tthree\n")
    with pytest.warns(UserWarning, match="2 of 4 pairs of 'a.tsv' have an empty side .* that of line 2"):
        assert read_pairs(["a.tsv"], "data") == [("eins", "one"), ("drei", "three")]


def test_bad_files(workdir: Path) -> None:
    write(a_tsv="eins\tone\nzwei\n", empty_de="", empty_en="", a_gz="no gzip")
    packed = bytearray(gzip.compress(b"eins\n" * 100))
    packed[10] ^= 0xFF
    Path("damaged.gz").write_bytes(packed)
    Path("latin.de").write_bytes("eins\nzwei\nfünf\n".encode("latin-1"))
    for files, message in {
        ("a.tsv",): "'a.tsv', line 2: need source, tab, target, found 1 columns: 'zwei'",
        ("latin.de",): "'latin.de' is no UTF-8 text: line 3, byte 11 is 0xfc",
        ("none.de",): "none.de",
        ("a.gz",): "'a.gz' cannot be read",
        ("damaged.gz",): "'damaged.gz' cannot be read",
        ("a", "b", "c"): r"need two aligned files, such as \[train.de, train.en\]",
    }.items():
        with pytest.raises(UserError, match=message):
            read_pairs(files, "data")
    with pytest.warns(UserWarning, match="empty side"), pytest.raises(UserError, match="holds no pair"):
        read_pairs(["empty.de", "empty.en"], "data")


# Splits ---------------------------------------------------------------------------------------------------------------


def test_dates_are_right_and_no_day_is_in_two_splits() -> None:
    data = ParallelTextDataModule(tokenizer=CharTokenizer())
    days = {stage: {target for _, target in pairs} for stage, pairs in data.pairs.items()}
    assert not days["train"] & days["val"] | days["train"] & days["test"] | days["val"] & days["test"]
    assert [len(pairs) for pairs in data.pairs.values()] == [2400, 300, 300]
    for forms in written_dates()[:20]:
        assert len(set(forms)) == FORMS_A_DAY
        day = datetime.date.fromisoformat(forms[0][1])
        assert all(str(day.year) in source and str(day.day) in source and iso == str(day) for source, iso in forms)
    assert written_dates() == written_dates()


def test_held_out_texts_are_distinct_and_seeded(workdir: Path) -> None:
    data, again, other = of_lines(), of_lines(), of_lines(split_seed=1)
    assert data.pairs == again.pairs != other.pairs
    assert sorted(pair for pairs in data.pairs.values() for pair in pairs) == sorted(
        (f"Zeile {i}", f"this is line {i}") for i in range(30)
    )
    assert [len(pairs) for pairs in data.pairs.values()] == [24, 3, 3]
    with pytest.raises(UserError, match="2 different texts are too few"):
        of_lines(2)


def test_a_test_file_leaves_the_training_pairs_to_training_and_validation(workdir: Path) -> None:
    write(test_de="Zeile A\n", test_en="this is line A\n")
    data = of_lines(test=["test.de", "test.en"])
    assert [len(pairs) for pairs in data.pairs.values()] == [27, 3, 1]
    assert data.pairs["test"] == [("Zeile A", "this is line A")]


def test_a_character_that_cannot_be_spelled_is_told_with_its_pair(workdir: Path) -> None:
    write(test_de="Zeile 99\nZeile \u00df\n", test_en="this is line 99\nthis is line 2\n")
    with pytest.raises(UserError, match="test split: source of pair 2, 'Zeile ß': tokenizer: the character 'ß'"):
        of_lines(test=["test.de", "test.en"], tokenizer=CharTokenizer(fallback=False))


def test_copies_between_splits_are_told(workdir: Path) -> None:
    write(train_tsv="eins\tone\nzwei\ttwo\n", val_tsv="drei\tthree\nzwei\ttwo\n", test_tsv="zwei\tdeux\n")
    with pytest.warns(UserWarning, match=r"1 pairs stand in two splits, such as 'zwei' \(val and train\)"):
        data = ParallelTextDataModule("train.tsv", "val.tsv", "test.tsv", tokenizer=CharTokenizer())
    assert len(data.pairs["train"]) == 2
    with pytest.raises(UserError, match="train: val or test is given without it"):
        ParallelTextDataModule(val="val.tsv")
    with pytest.warns(UserWarning, match="1 pairs"), pytest.raises(UserError, match="there is no test split; write"):
        ParallelTextDataModule("train.tsv", "val.tsv", tokenizer=CharTokenizer()).dataset("test")


# Tokens and batches ---------------------------------------------------------------------------------------------------


def test_vocabularies_see_the_training_split_alone(workdir: Path) -> None:
    write(train_tsv="ab\txy\nba\tyx\n", val_tsv="abc\txyz\n")
    joint = ParallelTextDataModule("train.tsv", "val.tsv", tokenizer=CharTokenizer())
    assert restore(joint.source_vocabulary).arguments()["characters"] == "abxy"
    assert joint.source_vocabulary == joint.target_vocabulary
    apart = ParallelTextDataModule("train.tsv", "val.tsv", tokenizer=CharTokenizer(), target_tokenizer=CharTokenizer())
    assert restore(apart.source_vocabulary).arguments()["characters"] == "ab"
    assert restore(apart.target_vocabulary).arguments()["characters"] == "xy"
    assert apart.target_vocabulary_size == 2 + 256 + 1
    merged = ParallelTextDataModule("train.tsv", "val.tsv")
    assert isinstance(restore(merged.target_vocabulary), BytePairTokenizer)


def test_batch_is_shifted_ended_and_padded(workdir: Path) -> None:
    data = of_lines()
    dataset = data.dataset("train")
    tokenizer = restore(data.target_vocabulary)
    batch = dataset[BatchIndex(0, torch.tensor([3, 0, 7]))]
    for row, number in enumerate((3, 0, 7)):
        source, target = data.pairs["train"][number]
        n = int(batch.source_length[row])
        assert tokenizer.decode(batch.source[row, :n].tolist()) == source
        assert batch.source[row, n - 1] == tokenizer.end_token
        label = batch.label[row][batch.label[row] != IGNORE_LABEL]
        assert tokenizer.decode(label.tolist()) == target
        assert label[-1] == tokenizer.end_token
        assert batch.token[row, 0] == tokenizer.end_token
        assert torch.equal(batch.token[row, 1 : len(label)], label[:-1])
    assert batch.index.tolist() == [3, 0, 7]
    assert len(batch.key.unique()) == 3


def test_an_evaluation_comes_by_length_and_names_its_pairs(workdir: Path) -> None:
    write(train_tsv="ab\txy\n", val_tsv="abab\txy\na\txyx\nab\tx\n")
    data = ParallelTextDataModule("train.tsv", "val.tsv", tokenizer=CharTokenizer(), batch_size=3)
    (batch,) = data.val_dataloader()
    assert batch.index.tolist() == [1, 2, 0]
    assert batch.source_length.tolist() == [2, 3, 5]


def test_a_long_text_is_cut_counted_and_told_but_no_reference_of_an_evaluation(workdir: Path) -> None:
    write(train_tsv="abcdef\txy\na\txyxyxy\n", val_tsv="abcdefg\txyxyxyx\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = ParallelTextDataModule("train.tsv", "val.tsv", tokenizer=CharTokenizer(), max_length=4)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 3
    assert "1 of 2 source texts of the train split are longer than 4 tokens" in texts[0]
    assert "1 of 2 target texts of the train split" in texts[1]
    assert "1 of 1 source texts of the val split" in texts[2]
    assert np.array_equal(data.dataset("train").lengths(), [[4, 3], [2, 4]])
    assert np.array_equal(data.dataset("val").lengths(), [[4, 8]])


def test_a_resumed_run_with_other_batches_is_told(workdir: Path) -> None:
    assert of_lines(max_tokens=64).state_dict()["max_tokens"] == 64
    loader = of_lines(max_tokens=64).train_dataloader()
    assert all(len(batch.index) * max(batch.source_length.max(), batch.label.shape[1]) <= 64 for batch in loader)


def test_a_copy_of_the_source_and_a_dictionary_are_baselines() -> None:
    baseline = ParallelTextDataModule(tokenizer=CharTokenizer()).baseline("val")
    (dictionary,) = baseline.others
    assert [baseline.name, dictionary.name] == ["copy of the source", "dictionary"]
    for found in (baseline, dictionary):
        assert 0 < found.metrics["bleu"] < found.metrics["chrf"] < 50


def test_dictionary_aligns_words_by_how_they_keep_company() -> None:
    draw = np.random.default_rng(0)
    texts = [draw.permutation(20)[:5].tolist() for _ in range(200)]
    pairs = [(" ".join(f"q{n}" for n in text), " ".join(f"z{n}" for n in text[::-1])) for text in texts]
    dictionary = Dictionary(pairs)
    assert dictionary.entries == {f"q{n}": f"z{n}" for n in range(20)}
    assert dictionary.translate("q3, q5 q99!") == "z3, z5 q99!"


def test_mistakes(workdir: Path) -> None:
    for options in ({"max_length": 1}, {"max_tokens": 0}, {"val_size": 0.0}, {"val_size": 0.6, "test_size": 0.4}):
        with pytest.raises(UserError, match=next(iter(options))):
            of_lines(**options)


def test_lines_to_translate(workdir: Path) -> None:
    tokenizer = CharTokenizer().trained(["abc"], "")
    Path("a.txt").write_text("abcabc\n\n  ab \n")
    with pytest.warns(UserWarning, match="1 of 2 lines are longer than 4 tokens"):
        data = TranslationInputDataModule(["a.txt"], tokenizer, max_length=4, batch_size=2)
    (batch,) = data.predict_dataloader()
    assert batch.source_length.tolist() == [3, 4]
    assert [data.sample_name(index) for index in batch.index.tolist()] == ["a.txt:3", "a.txt:1"]
    Path("none.txt").write_text("\n")
    with pytest.raises(UserError, match=r"no line of none\.txt has text"):
        TranslationInputDataModule(["none.txt"], tokenizer, max_length=4)
    with pytest.raises(UserError, match=r"a.txt:1: .*'a' at position 0"):
        TranslationInputDataModule(["a.txt"], CharTokenizer(fallback=False).trained(["x"], ""), max_length=9)
