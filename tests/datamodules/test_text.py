"""Text: splits that do not leak, blocks that count every token once, streams that continue, errors that say where."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.corpus import TokenFiles
from datamodules.lines import LinesDataModule
from datamodules.sampler import BatchIndex, EvaluationSampler
from datamodules.text import TextDataModule
from datamodules.text_files import PIECE, read_document
from datamodules.text_input import input_lines
from datamodules.token_blocks import EvaluationBlocks, EvaluationStreams, TrainingBlocks, TrainingStreams
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.types import IGNORE_LABEL, TextBatch

TOKENS = np.arange(1000, 1103, dtype=np.uint16)  # each is its own position


def text_of(data: Any, stage: Any) -> str:
    text: str = data._corpus.tokenizer.decode(data._corpus.of(stage).tolist())
    return text


def every_target(blocks: Any, batch_size: int, ranks: int) -> list[int]:
    found: list[int] = []
    for rank in range(ranks):
        for index in EvaluationSampler(len(blocks), batch_size, rank, ranks):
            target = blocks[index].target
            found += target[target != IGNORE_LABEL].tolist()
    return sorted(found)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("n", [2, 8, 9, 10, 33, 103])
def test_evaluation_counts_every_target_once(n: int, ranks: int) -> None:
    tokens = TOKENS[:n]
    for blocks, batch_size in [
        *((EvaluationBlocks(tokens, 8, overlap), 5) for overlap in (0, 1, 7)),
        *((EvaluationStreams(tokens, 8, streams), streams) for streams in (2, 3, 5)),
    ]:
        if len(blocks) >= ranks:
            assert every_target(blocks, batch_size, ranks) == tokens[1:].tolist()


def test_targets_are_the_inputs_shifted_by_one() -> None:
    for blocks in (TrainingBlocks(TOKENS, 8), TrainingStreams(TOKENS, 8, 3), EvaluationStreams(TOKENS, 8, 3)):
        batch = blocks[BatchIndex(4, torch.arange(6))]
        assert torch.equal(batch.token[:, 1:], batch.target[:, :-1])
        assert batch.token.shape == (6, 8)
        assert batch.token.dtype == batch.target.dtype == torch.int64


def test_overlap_is_read_and_not_counted() -> None:
    batch = EvaluationBlocks(TOKENS, 8, overlap=3)[BatchIndex(0, torch.arange(3))]
    assert batch.token[:, 0].tolist() == [1000, 1005, 1010]
    assert (batch.target != IGNORE_LABEL).sum(dim=1).tolist() == [8, 5, 5]
    assert batch.target[1, :3].tolist() == [IGNORE_LABEL] * 3


def test_training_blocks_are_a_function_of_seed_and_epoch() -> None:
    blocks = TrainingBlocks(TOKENS, 8)
    every = torch.arange(len(blocks))
    first, again, other = (blocks[BatchIndex(epoch, every)].token for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for epoch in (first, other):  # no token twice, all but a rest smaller than a block
        assert len(epoch.unique()) == len(TOKENS) // 8 * 8
    blocks.seed = 1
    assert not torch.equal(first, blocks[BatchIndex(0, every)].token)


def batches(data: TextDataModule) -> list[TextBatch]:
    return list(data.train_dataloader())


def test_a_batch_continues_where_the_one_before_ended(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(map(chr, range(256, 1256))))
    data = TextDataModule(str(tmp_path / "a.txt"), block_size=7, streams=True, batch_size=4, test_size=0.0)
    made = batches(data)
    assert [batch.continues for batch in made] == [False, *[True] * (len(made) - 1)]
    for before, after in itertools.pairwise(made):
        assert torch.equal(before.target[:, -1], after.token[:, 0])
    assert len(torch.cat([batch.token for batch in made]).unique()) == len(made) * 28
    evaluated = list(data.val_dataloader())
    assert [batch.continues for batch in evaluated] == [False, *[True] * (len(evaluated) - 1)]
    assert sum(int((batch.target != IGNORE_LABEL).sum()) for batch in evaluated) == 199  # new: by two bytes


def test_topics_are_dealt_whole_and_no_text_is_in_two_splits() -> None:
    data = TextDataModule()
    end = data._corpus.tokenizer.end_token
    documents = {}
    for stage in ("train", "val", "test"):
        tokens = data._corpus.of(stage)
        assert tokens[0] == tokens[-1] == end
        documents[stage] = {bytes(part[1:]) for part in np.split(tokens, np.flatnonzero(tokens == end))}
    from pydoc_data.topics import topics

    assert sum(len(found - {b""}) for found in documents.values()) == len(set(topics.values()))
    assert not documents["train"] & documents["val"] - {b""}
    assert not documents["train"] & documents["test"] - {b""}
    sizes = {stage: len(data._corpus.of(stage)) for stage in documents}
    assert 0.05 < sizes["val"] / sum(sizes.values()) < 0.15
    assert text_of(data, "train") != text_of(TextDataModule(split_seed=1), "train")


def test_one_file_is_cut_in_its_order(tmp_path: Path) -> None:
    text = "äöü€" * 100  # bytes that must not be torn
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    data = TextDataModule(str(tmp_path / "a.txt"), block_size=8)
    assert "".join(text_of(data, stage) for stage in ("train", "val", "test")) == text
    assert data._corpus.tokenizer.end_token is None


def test_tokenizer_sees_the_training_split_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 90 + "z" * 20)
    data = TextDataModule(str(tmp_path / "a.txt"), block_size=8, test_size=0.0, batch_size=1)
    assert data._corpus.tokenizer.arguments()["characters"] == "ab"
    with pytest.raises(UserError, match=r"'z' at position \d+ is not in the training split"):
        TextDataModule(str(tmp_path / "a.txt"), tokenizer=CharTokenizer(fallback=False), block_size=8)


def test_your_own_splits_and_copies_in_two_of_them(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name, text in (("train/a.txt", "a" * 50), ("train/b.txt", "b" * 50), ("val.txt", "a" * 50)):
        (tmp_path / name).write_text(text)
    with pytest.warns(UserWarning, match=r"1 documents stand in two splits, such as .*val.txt \(val and train\)"):
        data = TextDataModule(str(tmp_path), block_size=8)
    assert text_of(data, "train") == "a" * 50 + "b" * 50
    assert text_of(data, "val") == "a" * 50
    with pytest.raises(UserError, match="there is no test split"):
        data.dataset("test")


def test_exact_copies_in_a_folder_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"document {min(number, 30)}\n" * 5)
    caplog.set_level("INFO")
    data = TextDataModule(str(tmp_path), block_size=8)
    assert "9 documents are copies of others" in caplog.text
    found = [text_of(data, stage).splitlines()[::5] for stage in ("train", "val", "test")]
    assert sorted(itertools.chain(*found)) == sorted(f"document {number}" for number in range(31))


def test_token_files_are_made_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be " * 50)
    options: dict[str, Any] = {"path": str(tmp_path / "a.txt"), "block_size": 8, "batch_size": 4}
    first = TextDataModule(**options, cache=str(tmp_path / "cache"))
    plain = TextDataModule(**options)
    monkeypatch.setattr(CharTokenizer, "encode", lambda *args: pytest.fail("tokenised again"))
    second = TextDataModule(**options, cache=str(tmp_path / "cache"))
    for data in (first, second):
        assert isinstance(data._corpus.of("train"), np.memmap)
        assert data.vocabulary == plain.vocabulary
        for a, b in zip(batches(data), batches(plain), strict=True):
            assert torch.equal(a.token, b.token)
    assert len(list((tmp_path / "cache").glob("[!.]*"))) == 1


def test_own_splits_with_token_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("train", "val"):
        (tmp_path / f"{stage}.txt").write_text(f"{stage}: to be or not to be " * 10)
    options: dict[str, Any] = {"path": str(tmp_path), "block_size": 8, "cache": str(tmp_path / "cache")}
    TextDataModule(**options)
    monkeypatch.setattr("datamodules.text_files._pieces", lambda *args: pytest.fail("read again"))
    TextDataModule(**options)


def test_token_files_are_made_by_one_process_while_others_wait(tmp_path: Path) -> None:
    files = TokenFiles(str(tmp_path), "settings")
    made = []

    def make() -> tuple[CharTokenizer, Any]:
        made.append(1)
        time.sleep(0.05)
        return CharTokenizer("ab"), {"train": iter([np.arange(2, dtype=np.uint16)])}

    with ThreadPoolExecutor() as threads:
        corpora = list(threads.map(lambda _: files.read_or_write(make), range(4)))
    assert len(made) == 1
    assert all(corpus.tokens["train"].tolist() == [0, 1] for corpus in corpora)
    files.write(*make())  # as where there are no locks: those of the first one stay
    assert [path.name for path in tmp_path.glob("[!.]*")] == [files.folder.name]


def test_documents_are_read_in_pieces(tmp_path: Path) -> None:
    """Cut at the ends of lines, and, in a line longer than a piece, between two characters."""
    text = "a" * (PIECE - 2) + "\n" + "€" * PIECE + "\nb"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    pieces = list(read_document(tmp_path / "a.txt").pieces())
    assert len(pieces) > 3
    assert "".join(pieces) == text
    assert pieces[0].endswith("\n")


def test_marks_of_windows_are_no_text(tmp_path: Path) -> None:
    """Prediction reads what training did."""
    (tmp_path / "a.txt").write_bytes("\ufeffab\r\nba\r\n".encode() + b"ab ab\r\n" * 40)
    lines = LinesDataModule(str(tmp_path / "a.txt"), val_size=0.4, test_size=0.0)
    assert lines._corpus.tokenizer.arguments()["characters"] in " ab"  # of what is left for training
    assert [line for _, line in input_lines([str(tmp_path / "a.txt")])] == ["ab", "ba", *["ab ab"] * 40]
    stream = TextDataModule(str(tmp_path / "a.txt"), block_size=4)
    assert stream._corpus.tokenizer.arguments()["characters"] == "\n\r ab"  # a stream keeps how its lines end
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        UserError, match=r"--input: no file below .* matches '\*\*/\*.txt'; .* Name the files themselves"
    ):
        list(input_lines([str(tmp_path / "folder")]))


def test_lines_are_samples_and_stand_once(tmp_path: Path) -> None:
    names = [f"{a}{b}{'x' * (a == 'c')}" for a in "abcdefghij" for b in "klmno"]
    (tmp_path / "a.txt").write_text("\n".join([*names, *names[:7], ""]) + "\n")
    data = LinesDataModule(str(tmp_path / "a.txt"), batch_size=4)
    found = {stage: text_of(data, stage).split() for stage in ("train", "val", "test")}
    assert sorted(itertools.chain(*found.values())) == sorted(names)
    assert [len(found[stage]) for stage in ("train", "val", "test")] == [40, 5, 5]
    assert data.block_size == 4
    end = data._corpus.tokenizer.end_token
    whole = data.dataset("val")[BatchIndex(0, torch.arange(5))]
    for token, target, name in zip(whole.token, whole.target, found["val"], strict=True):
        expected = [*data._corpus.tokenizer.encode(name).tolist(), end]
        assert target[: len(expected)].tolist() == expected
        assert (target[len(expected) :] == IGNORE_LABEL).all()
        assert token[: len(expected)].tolist() == [end, *expected[:-1]]


def test_unigram_baseline_is_the_cross_entropy_of_frequencies(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaab" * 90 + "baab" * 10)
    data = TextDataModule(str(tmp_path / "a.txt"), CharTokenizer(fallback=False), 8, test_size=0.0)
    p = torch.tensor([271.0, 91.0]) / 362  # each counted once more
    target = torch.tensor([0, 0, 1, *[1, 0, 0, 1] * 9])
    baseline = data.baseline("val")
    assert baseline.metrics["loss"] == pytest.approx(float(-p[target].log().mean()))
    assert baseline.metrics["bits_per_byte"] == pytest.approx(baseline.metrics["loss"] / np.log(2))


def test_mistakes(tmp_path: Path) -> None:
    files = {
        "empty": b"",
        "latin": b"ab\n" * 100 + b"caf\xe9 au lait" * 20,
        "short": b"abcdefghij",
        "good": b"ab\n" * 99,
    }
    for name, content in files.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.md").write_text("a")
    (tmp_path / "twice" / "train").mkdir(parents=True)
    for name in ("train/a", "train", "val"):
        (tmp_path / "twice" / f"{name}.txt").write_text(name)
    for name, options, message in [
        ("empty.txt", {}, "is empty; give a file with text"),
        ("twice", {}, "has 'train.txt' and 'train', which would both be the train split"),
        ("latin.txt", {}, r"is no UTF-8 text: byte 303 is 0xe9 \(invalid continuation byte\).*iconv"),
        ("latin.txt", {"cache": str(tmp_path / "cache")}, "byte 303"),
        ("missing.txt", {}, "no such file or folder"),
        ("folder", {}, r"no file below .* matches .*it holds a.md"),
        ("good.txt", {"val_size": 0.6, "test_size": 0.5}, "shares whose sum is below 1"),
        ("good.txt", {"overlap": 64}, "0 <= overlap < block_size"),
        ("good.txt", {"overlap": 3, "streams": True}, "leave one of both out"),
        ("good.txt", {"block_size": 0}, "need block_size >= 1"),
    ]:
        with pytest.raises(UserError, match=message):
            TextDataModule(str(tmp_path / name), **options)
    with pytest.raises(UserError, match="training split has 8 tokens, less than a block of 64"):
        TextDataModule(str(tmp_path / "short.txt")).dataset("train")
    with pytest.raises(UserError, match=r"237 tokens, less than a block of 8 for each of 64 streams; .* or batch_size"):
        TextDataModule(str(tmp_path / "good.txt"), block_size=8, streams=True).dataset("train")
    with pytest.raises(UserError, match="too few to hold some out"):
        LinesDataModule(str(tmp_path / "short.txt"))
    (tmp_path / "folder" / "b.md").write_text("bb")
    with pytest.raises(UserError, match="too few for a"):
        TextDataModule(str(tmp_path / "folder"), pattern="*.md")
