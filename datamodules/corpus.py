"""Documents as streams of tokens: split, tokenised once, in memory or in files that are mapped into it."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from datamodules.text_files import Document
from toolkit.errors import UserError
from toolkit.language.tokenizer import Tokenizer, restore
from toolkit.types import Baseline, Stage

Splits = Mapping[Stage, Sequence[Document]]
Pieces = Mapping[Stage, Iterator[np.ndarray]]
CHUNK = 2**24
"""Tokens that are counted at a time."""


@dataclass(frozen=True)
class Corpus:
    """A trained tokenizer and the tokens of each split."""

    tokenizer: Tokenizer
    tokens: Mapping[Stage, np.ndarray]
    """``(N,)``, uint16 or uint32."""

    def of(self, stage: Stage) -> np.ndarray:
        """The tokens of a split, two at least.

        Raises:
            UserError: There is no such split, or it is too small.
        """
        if stage not in self.tokens:
            raise UserError(
                f"data: there is no {stage} split; write data.init_args.{stage}_size: 0.1, or give its files."
            )
        if len(self.tokens[stage]) < 2:
            raise UserError(f"data: the {stage} split has {len(self.tokens[stage])} tokens; it needs 2 at least.")
        return self.tokens[stage]

    def unigram(self, stage: Stage) -> Baseline:
        """What the frequencies of tokens in the training split, each counted once more, score on another split."""
        counts = _counts(self.of("train"), self.tokenizer.size) + 1.0
        asked = _counts(self.of(stage)[1:], self.tokenizer.size)  # the first token is not predicted
        nats = -(asked * np.log(counts / counts.sum())).sum()
        loss = float(nats / asked.sum())
        size = float((asked * np.array(self.tokenizer.token_bytes())).sum())
        scores = {"loss": loss, "perplexity": float(np.exp(loss)), "bits_per_byte": float(nats / np.log(2) / size)}
        return Baseline("unigram", scores)


def tokenised(splits: Splits, tokenizer: Tokenizer, end: str | None) -> tuple[Tokenizer, Pieces]:
    """A tokenizer trained on the training split, and the tokens of each split, piece by piece.

    Args:
        splits: Documents.
        tokenizer: Its settings.
        end: The text that an end stands for; it stands behind each document and before the first one. None: no ends.
    """
    trained = tokenizer.trained((piece for document in splits["train"] for piece in document.pieces()), end)
    return trained, {stage: _spelled(documents, trained) for stage, documents in splits.items()}


def _spelled(documents: Sequence[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    kind = np.uint16 if tokenizer.size <= 2**16 else np.uint32
    end = [] if tokenizer.end_token is None else [tokenizer.end_token]
    yield np.array(end, dtype=kind)
    for document in documents:
        for piece in document.pieces():
            try:
                yield tokenizer.encode(piece).astype(kind)
            except UserError as error:
                raise UserError(f"data: {document.name}: {error}") from error
        yield np.array(end, dtype=kind)


def in_memory(trained: Tokenizer, pieces: Pieces) -> Corpus:
    """The tokens as arrays."""
    return Corpus(trained, {stage: np.concatenate(list(parts)) for stage, parts in pieces.items()})


class TokenFiles:
    """A folder of token files, made once for each corpus and setting, and mapped into memory from then on.

    Args:
        folder: Of all corpora.
        settings: What decides the tokens: two corpora with equal ones are the same.
    """

    def __init__(self, folder: str, settings: Any) -> None:
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(folder).expanduser() / name

    def read_or_write(self, make: Callable[[], tuple[Tokenizer, Pieces]]) -> Corpus:
        """Map them; the first process that finds none makes them, and those beside it wait."""
        if not self.exist():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
            with contextlib.suppress(OSError, NotImplementedError):  # without locks all work, and the first one wins
                lock.acquire()
            try:
                if not self.exist():
                    self.write(*make())
            finally:
                lock.release()
        return self.read()

    def exist(self) -> bool:
        """Whether they were written to their end."""
        return self.folder.is_dir()

    def write(self, trained: Tokenizer, pieces: Pieces) -> None:
        """Write beside the folder and rename; if another process was faster, its files stay."""
        beside = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}-"))
        try:
            (beside / "vocabulary.json").write_text(json.dumps(trained.vocabulary()))
            for stage, parts in pieces.items():
                with open(beside / f"{stage}.bin", "wb") as file:
                    for part in parts:
                        part.tofile(file)
            try:
                os.replace(beside, self.folder)
            except OSError:  # it is not empty
                if not self.exist():
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def read(self) -> Corpus:
        """Map them."""
        trained = restore(json.loads((self.folder / "vocabulary.json").read_text()))
        kind = np.uint16 if trained.size <= 2**16 else np.uint32
        stages: tuple[Stage, ...] = ("train", "val", "test")
        files: dict[Stage, Path] = {stage: self.folder / f"{stage}.bin" for stage in stages}
        return Corpus(
            trained,
            {
                stage: np.memmap(file, dtype=kind, mode="r") if file.stat().st_size else np.empty(0, dtype=kind)
                for stage, file in files.items()
                if file.exists()
            },
        )


def deal(documents: Sequence[Document], val_size: float, test_size: float, seed: int) -> dict[Stage, list[Document]]:
    """Deal whole documents to splits, in a seeded order, until each has its share of the bytes.

    A document goes to a split if at least half of it is still missing there, so a long one may be passed over.

    Raises:
        UserError: A split would have no document.
    """
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    left = [documents[number] for number in order]
    total = sum(document.size for document in documents)
    splits: dict[Stage, list[Document]] = {}
    shares: tuple[tuple[Stage, float], ...] = (("test", test_size), ("val", val_size))
    for stage, share in shares:
        if share == 0:
            continue
        taken, size = [], 0
        for document in left:
            if size + document.size / 2 <= share * total:
                taken.append(document)
                size += document.size
        if not taken or len(taken) == len(left):
            raise UserError(
                f"data: {len(documents)} documents are too few for a {stage} split of {share:g}; give more, or put "
                "your own splits into files or folders named train, val and test."
            )
        chosen = set(map(id, taken))
        left = [document for document in left if id(document) not in chosen]
        splits[stage] = taken
    return {"train": left, **splits}


def _counts(tokens: np.ndarray, size: int) -> np.ndarray:
    """How often each of V tokens occurs: ``(V,)``, float64."""
    counts = np.zeros(size)
    for first in range(0, len(tokens), CHUNK):
        counts += np.bincount(tokens[first : first + CHUNK], minlength=size)
    return counts
