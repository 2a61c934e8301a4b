"""Labelled texts: what is read, what is held out, what is cut, and errors that say where."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules.docstrings import PACKAGES, docstrings
from datamodules.labelled_text import read_rows
from datamodules.length_sampler import LengthSampler
from datamodules.sampler import BatchIndex
from datamodules.text_classification import TextClassificationDataModule
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.types import IGNORE_LABEL

WORDS = ["good", "fine", "bad", "poor"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f'"{WORDS[n % 4]} film, number {n}",{"pos" if n % 4 < 2 else "neg"}' for n in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "test.csv").write_text('text,label\n"a good\nfilm",pos\na bad film,neg\n')
    return tmp_path


def data_of(folder: Path, **options: Any) -> TextClassificationDataModule:
    options = {"train": str(folder / "train.csv"), "tokenizer": CharTokenizer(), "batch_size": 8} | options
    return TextClassificationDataModule(**options)


def texts_of(data: TextClassificationDataModule, stage: Any) -> list[str]:
    texts = data.dataset(stage)
    batch = texts[BatchIndex(0, torch.arange(len(texts)))]
    return [data._tokenizer.decode(row[mask].tolist()) for row, mask in zip(batch.token, batch.mask, strict=True)]


def test_a_csv_with_names_of_columns(table: Path) -> None:
    data = data_of(table, test=str(table / "test.csv"))
    assert (data.num_classes, data.class_names) == (2, ["neg", "pos"])
    assert [len(data.dataset(stage)) for stage in ("train", "val", "test")] == [54, 6, 2]
    assert texts_of(data, "test") == ["a good\nfilm", "a bad film"]
    batch = data.dataset("test")[BatchIndex(3, torch.tensor([1, 0]))]
    assert batch.label.tolist() == [0, 1]
    assert batch.mask.sum(dim=1).tolist() == [10, 11]
    assert batch.token[~batch.mask].tolist() == [0]
    held_out = set(texts_of(data, "val"))
    assert not held_out & set(texts_of(data, "train"))
    assert texts_of(data_of(table, split_seed=1), "val") != texts_of(data, "val")


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "seq.in"])
def test_the_same_rows_in_other_formats(kind: str, tmp_path: Path) -> None:
    rows = [('he said "so', "a"), ("naïve \u2028 text", "b")]
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"n": 1, "text": text, "label": label}) + "\n\n" for text, label in rows))
    else:
        ends = [f"\t{label}" if kind == "tsv" else "" for _, label in rows]
        path.write_text(
            "\r\n".join(text + end for (text, _), end in zip(rows, ends, strict=True)), encoding="utf-8-sig"
        )
        (tmp_path / "x.label").write_text("".join(f"{label}\n" for _, label in rows))
    columns: tuple[Any, Any] = (0, 1) if kind == "tsv" else ("text", "label")
    assert [(row.text, row.label) for row in read_rows(path, *columns)] == rows
    assert [row.place for row in read_rows(path, *columns)] == [f"{path}:1", f"{path}:{3 if kind == 'jsonl' else 2}"]


def test_an_unseen_label_is_named_with_its_place(table: Path) -> None:
    (table / "test.csv").write_text('text,label\n"two\nlines",pos\nso so,mixed\n')
    with pytest.raises(
        UserError, match=r"test.csv:4: the label 'mixed' of test is not among the 2 of the training file"
    ):
        data_of(table, test=str(table / "test.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv' is empty"),
        ("a.csv", b"text,label\n", "a.csv' has no rows"),
        ("a.csv", b"sentence,label\nx,1\n", r"a.csv:1: there is no column 'text', only 'sentence', 'label'"),
        ("a.csv", b"text,label\nx,1\nonly\n", r"a.csv:3: the row has 1 columns, and number 1 is needed"),
        ("a.csv", b'text,label\nx,1\n"x" y,1\n', r"a.csv:3: the row cannot be read"),
        ("a.csv", b"text,label\nx,1\n  ,1\n", r"a.csv:3: the row has no text"),
        ("a.csv", b"text,label\nx,1\ny,\n", r"a.csv:3: the row has no label"),
        ("a.csv", b"text,label\nx,1\ncaf\xe9,1\n", r"a.csv:3: byte 18 of the file is 0xe9.*iconv"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{', r"a.jsonl:2: the line is no JSON"),
        ("a.jsonl", b'{"text": "x"}\n', r"a.jsonl:1: the object has no 'label', only text"),
        ("a.jsonl", b'{"text": null, "label": 1}\n', r"a.jsonl:1: the row has no text"),
        ("a.jsonl", b'{"text": "a\\ud83d", "label": 1}', r"a.jsonl:1: .*'\\ud83d' at position 1 is half a character"),
        ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,1\n", r"a.csv:2: byte 17 of the file is 0xe9"),
        ("a.jsonl", b"[1]\n", r"a.jsonl:1: the object has no 'text', only list"),
        ("a.xlsx", b"x", r"must end in one of .csv"),
        ("a.seq.in", b"x\ny\n", "needs its labels beside it"),
    ],
)
def test_wrong_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_rows(tmp_path / name, "text", "label")


def test_mistakes(table: Path) -> None:
    for options, message in [
        ({"train": str(table / "missing.csv")}, "data.init_args.train: no such file"),
        ({"shots": 40}, r"shots: 40 are asked for, but 'neg' has \d+ texts"),
        ({"max_length": 2}, "max_length >= 3"),
        ({"val_size": 0.5}, "a share in"),
        ({"val_size": 0.001}, "too few to hold out"),
        ({"train": None, "val": "x.csv"}, "none for training"),
        ({"text_column": 7, "label_column": 1}, "has 2 columns, and number 7 is needed"),
        ({"label_column": "text"}, "too few|need two labels|not among"),
    ]:
        with pytest.raises(UserError, match=message):
            data_of(table, **options)
    with pytest.raises(UserError, match="there is no test split"):
        data_of(table).dataset("test")
    (table / "x.seq.in").write_text("a\nb\n")
    (table / "x.label").write_text("1\n")
    with pytest.raises(UserError, match=r"has 2 lines, and 'x.label' has 1"):
        read_rows(table / "x.seq.in", "text", "label")


def test_copies_are_left_out_before_the_split_and_told_between_files(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open(table / "train.csv", "a") as file:
        file.write('"good film, number 0",pos\n' * 5)
    caplog.set_level("INFO")
    data = data_of(table)
    assert "5 of 65 texts for training stood before" in caplog.text
    assert len(data.dataset("train")) + len(data.dataset("val")) == 60
    (table / "val.csv").write_text('text,label\n"good film, number 0",pos\nbad,neg\n')
    with pytest.warns(UserWarning, match=r"1 texts stand in two splits, such as .*val.csv:2 \(val and train\)"):
        data_of(table, val=str(table / "val.csv"))


def test_long_texts_are_cut_and_counted(table: Path) -> None:
    with pytest.warns(UserWarning, match="longer than 19") as warned:
        data = data_of(table, max_length=19, val=str(table / "test.csv"))
    assert [str(w.message) for w in warned] == [
        "train: 37 of 60 texts are longer than 19 tokens; their rest is not read."
    ]
    assert int(data.dataset("train").length.max()) == 19
    assert data.max_length == 19


def test_few_shots_are_seeded_and_balanced(table: Path) -> None:
    data, again, other = (data_of(table, shots=5, split_seed=seed) for seed in (0, 0, 1))
    assert data.dataset("train").label.bincount().tolist() == [5, 5]
    assert texts_of(data, "train") == texts_of(again, "train")
    assert texts_of(data, "train") != texts_of(other, "train")
    assert set(data._tokenizer.arguments()["characters"]) == set("".join(texts_of(data, "train")))  # of these alone


def test_sorted_batches_hold_every_text_once_on_any_number_of_ranks() -> None:
    lengths = torch.randint(3, 60, (203,), generator=torch.Generator().manual_seed(0))
    args = (lengths, 5, 203, 8, 7)
    one, (left, right) = LengthSampler(*args), (LengthSampler(*args, rank, 2) for rank in (0, 1))
    whole = [batch.index for batch in one]
    assert len(whole) == 25
    assert len(torch.cat(whole).unique()) == 200
    for batch, a, b in zip(whole, left, right, strict=True):
        assert torch.equal(batch, torch.cat([a.index, b.index]))
    padded = sum(8 * int(lengths[batch].max()) for batch in whole)
    plain = sum(8 * int(lengths[batch].max()) for batch in torch.arange(200).view(25, 8))
    assert padded < 0.8 * plain
    args = (lengths, 5, 203, 4, 7)
    for step, batch in zip(
        torch.stack([b.index for b in LengthSampler(*args, accumulate=2)]).view(-1, 8), whole, strict=True
    ):
        assert torch.equal(step, batch)  # however a step is cut
    one.first = 11
    assert all(torch.equal(x.index, y) for x, y in zip(one, whole[11:], strict=True))
    one.first = 0
    one.set_epoch(1)
    assert not torch.equal(torch.cat([batch.index for batch in one]), torch.cat(whole))


def test_the_loader_sorts_by_length_where_asked(table: Path) -> None:
    data = data_of(table, length_window=6, batch_size=4)
    Trainer(logger=False, enable_checkpointing=False, accelerator="cpu").datamodule = data  # type: ignore[attr-defined]
    batches = list(data.train_dataloader())
    assert len(torch.cat([batch.index for batch in batches]).unique()) == 4 * len(batches) == 52
    assert all(int(batch.mask.sum(dim=1).max()) == batch.token.shape[1] for batch in batches)


def test_docstrings_do_not_leak() -> None:
    rows = docstrings()
    assert {row.label for row in rows} == set(PACKAGES)
    assert len({row.text for row in rows}) == len(rows) > 1000
    data = TextClassificationDataModule(tokenizer=CharTokenizer(), max_length=2000)
    found = {stage: set(data._texts[stage]) for stage in ("train", "val", "test")}
    assert sum(map(len, found.values())) == len(rows)
    for one, other in itertools.combinations(found.values(), 2):
        assert not one & other


def test_baselines(table: Path) -> None:
    data = data_of(table, test=str(table / "test.csv"))
    baseline = data.baseline("test")
    assert baseline.metrics == {"acc": 0.5, "f1": pytest.approx(1 / 3)}
    (linear,) = baseline.others
    assert linear.name.startswith("TF-IDF")
    assert linear.metrics["acc"] == 1.0


def test_texts_without_a_word_have_no_linear_baseline(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"{'!' * n},{n % 2}\n" for n in range(1, 41)))
    data = TextClassificationDataModule(str(tmp_path / "train.csv"), tokenizer=CharTokenizer())
    baseline = data.baseline("val")
    assert baseline.metrics["acc"] == 0.5
    assert baseline.others == ()


def test_unlabelled_texts_have_the_label_that_counts_nowhere(table: Path) -> None:
    from datamodules.text_lines_input import TextLinesInputDataModule

    (table / "in.txt").write_text("\ufeffa film \r\n \r\nanother\r\n", encoding="utf-8", newline="")
    data = TextLinesInputDataModule([str(table / "in.txt")], CharTokenizer(), 100)
    assert data._texts.length.tolist() == [6, 7]
    batch = next(iter(data.predict_dataloader()))
    assert batch.label.tolist() == [IGNORE_LABEL] * 2
    assert [data.sample_name(n) for n in range(2)] == [f"{table / 'in.txt'}:{n}" for n in (1, 3)]
