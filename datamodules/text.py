"""Text as one stream of tokens a split, cut into blocks."""

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from datamodules.base import BaseDataModule
from datamodules.corpus import Corpus, Pieces, Splits, TokenFiles, deal, in_memory, tokenised
from datamodules.image_reader import existing
from datamodules.sampler import StreamSampler, TrainSampler
from datamodules.text_files import Document, character_boundary, distinct, document_of, read_document, text_files
from datamodules.token_blocks import EvaluationBlocks, EvaluationStreams, TokenBlocks, TrainingBlocks, TrainingStreams
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Baseline, Stage

STAGES: tuple[Stage, ...] = ("train", "val", "test")


class TextDataModule(BaseDataModule):
    """A file or a folder of text; by default CPython's own manual, the topics of ``help()``.

    A single file is cut in three: its begin for training, then validation, then test. Of a folder each file is a
    document: documents are dealt whole to the splits, exact copies of one are left out and told, and an end stands
    between two. A folder that holds files or folders named ``train``, ``val`` and ``test`` is split by you; copies in
    two splits are told. Tokenizer and unigram baseline see the training split alone.

    Training blocks do not overlap, every epoch cuts its blocks elsewhere, and the order is keyed: each token is
    trained on once an epoch. With ``streams`` the training split lies in ``batch_size`` parts, and evaluation's in
    ``eval_batch_size`` parts, which are read from end to end, each block with the state behind the one before.

    Args:
        path: The file or folder; the embedded topics if None (their text differs between versions of Python).
        tokenizer: Trained on the training split; characters if None.
        block_size: Tokens in a row of a batch.
        streams: Read on from batch to batch, for networks that carry their state, instead of shuffling blocks.
        overlap: Tokens of an evaluation block that are only read, because the block before has predicted them.
        val_size: Share of the bytes.
        test_size: Share of the bytes; 0: no test split.
        split_seed: Which documents are held out; the same for all seeds of a run.
        pattern: Which files of a folder.
        cache: Folder for files of tokens, which are made once and mapped into memory, so that a corpus need not fit
            there; None: in memory.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: No such file, no UTF-8 (with the place), nothing in it, less than a block, or a number out of range.
    """

    def __init__(
        self,
        path: str | None = None,
        tokenizer: Tokenizer | None = None,
        block_size: int = 64,
        streams: bool = False,
        overlap: int = 0,
        val_size: float = 0.1,
        test_size: float = 0.1,
        split_seed: int = 0,
        pattern: str = "**/*.txt",
        cache: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        _check(block_size, overlap, val_size, test_size, streams)
        self.block_size, self.streams, self.overlap = block_size, streams, overlap
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed
        self._corpus = self._read(path, pattern, tokenizer or CharTokenizer(), cache)

    @property
    def vocabulary(self) -> dict[str, Any]:
        """The trained tokenizer as plain values."""
        return self._corpus.tokenizer.vocabulary()

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self._corpus.tokenizer.size

    @property
    def pretrained(self) -> str | None:
        """The pretrained model that the tokenizer is of; None for one that was trained here."""
        return self._corpus.tokenizer.pretrained

    def dataset(self, stage: Stage) -> TokenBlocks:
        """The blocks of a split."""
        tokens = self._corpus.of(stage)
        if stage == "train" and self.streams and len(tokens) < self.block_size * self.batch_size:
            raise UserError(
                f"data: the training split has {len(tokens)} tokens, less than a block of {self.block_size} for each "
                f"of {self.batch_size} streams; write a smaller data.init_args.block_size or batch_size, or give more "
                "text."
            )
        if stage == "train" and len(tokens) <= self.block_size:
            raise UserError(
                f"data: the training split has {len(tokens)} tokens, less than a block of {self.block_size}; write a "
                "smaller data.init_args.block_size, or give more text."
            )
        blocks: TokenBlocks
        if stage == "train":
            args = (tokens, self.block_size)
            blocks = TrainingStreams(*args, self.batch_size) if self.streams else TrainingBlocks(*args)
        elif self.streams:
            blocks = EvaluationStreams(tokens, self.block_size, min(self._evaluation_streams(), len(tokens) - 1))
        else:
            blocks = EvaluationBlocks(tokens, self.block_size, self.overlap)
        blocks.seed = self.seed
        return blocks

    def baseline(self, stage: Stage) -> Baseline:
        """A model that knows how frequent each token is in the training split, and nothing else."""
        return self._corpus.unigram(stage)

    def _evaluation_streams(self) -> int:
        ranks = self._place()[1]
        if self.eval_batch_size < ranks:
            raise UserError(
                f"data.init_args.eval_batch_size: {self.eval_batch_size} streams cannot be read by {ranks} devices; "
                f"write at least {ranks}."
            )
        return self.eval_batch_size

    def _train_sampler(self, length: int, rank: int, world_size: int, accumulate: int) -> TrainSampler:
        kind = StreamSampler if self.streams else TrainSampler
        return kind(length, self.batch_size, self.seed, rank, world_size, accumulate)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, path: str | None, pattern: str, tokenizer: Tokenizer, cache: str | None) -> Corpus:
        place = None if path is None else existing(path, "data.init_args.path")
        own = {} if place is None else _own_splits(place, pattern)
        documents = [] if own else _documents(place, pattern)

        def make() -> tuple[Tokenizer, Pieces]:
            if own:
                _tell_copies(own)  # here, as it reads them whole
            return self._tokenised(own or self._split(documents, place), tokenizer)

        if cache is None:
            return in_memory(*make())
        origins = {stage: [document.origin for document in found] for stage, found in own.items()}
        undealt = [document.origin for document in documents]
        settings = [origins, undealt, tokenizer.vocabulary(), self.val_size, self.test_size, self.split_seed]
        files = TokenFiles(cache, settings)
        return files.read_or_write(make)

    def _tokenised(self, splits: Splits, tokenizer: Tokenizer) -> tuple[Tokenizer, Pieces]:
        several = any(len(documents) > 1 for documents in splits.values())
        return tokenised(splits, tokenizer, "" if several else None)

    def _split(self, documents: list[Document], place: Path | None) -> Splits:
        if len(documents) == 1 and place is not None:
            return self._cut(text_files(place, "**/*")[0] if place.is_file() else Path(documents[0].name))
        kept, copies = distinct(documents)
        if copies:
            rank_zero_info(f"data: {len(copies)} documents are copies of others and are left out, such as {copies[0]}")
        return deal(kept, self.val_size, self.test_size, self.split_seed)

    def _cut(self, file: Path) -> Splits:
        """A file in three, between two characters."""
        size = file.stat().st_size
        shares = (1 - self.val_size - self.test_size, 1 - self.test_size, 1.0)
        ends = [character_boundary(file, int(size * share)) for share in shares[:2]] + [size]
        parts = [read_document(file, first, stop) for first, stop in zip([0, *ends[:2]], ends, strict=True)]
        return {stage: [part] for stage, part in zip(STAGES, parts, strict=True) if part.size or stage == "train"}


def _documents(place: Path | None, pattern: str) -> list[Document]:
    if place is None:
        from pydoc_data.topics import topics

        return [document_of(name, text) for name, text in sorted(topics.items())]
    documents = [read_document(file) for file in text_files(place, pattern)]
    if not any(document.size for document in documents):
        raise UserError(f"data.init_args.path: {str(place)!r} is empty; give a file with text.")
    return documents


def _own_splits(place: Path, pattern: str) -> dict[Stage, list[Document]]:
    """Documents of files or folders called train, val and test, if there is one for training."""
    if not place.is_dir():
        return {}
    found: dict[Stage, list[Document]] = {}
    named: dict[Stage, str] = {}
    for stage in STAGES:
        for child in sorted(place.iterdir()):
            if child.name.partition(".")[0] != stage:
                continue
            if stage in found:
                raise UserError(
                    f"data.init_args.path: {str(place)!r} has {child.name!r} and {named[stage]!r}, which would both be "
                    f"the {stage} split; leave one of them."
                )
            found[stage] = [read_document(file) for file in text_files(child, pattern)]
            named[stage] = child.name
    if "train" not in found:
        return {}
    if "val" not in found:
        raise UserError(f"data.init_args.path: {str(place)!r} has train but no val; add a file or folder of that name.")
    return found


def _tell_copies(splits: Splits) -> None:
    """Warn of documents that stand in two splits."""
    seen: dict[bytes, Stage] = {}
    copies = []
    for stage, documents in splits.items():
        digests = {document.digest(): document.name for document in documents}
        copies += [f"{name} ({stage} and {seen[digest]})" for digest, name in digests.items() if digest in seen]
        seen |= dict.fromkeys(digests, stage)
    if copies:
        rank_zero_warn(f"data: {len(copies)} documents stand in two splits, such as {copies[0]}; scores are too good.")


def _check(block_size: int, overlap: int, val_size: float, test_size: float, streams: bool) -> None:
    if block_size < 1 or not 0 <= overlap < block_size:
        raise UserError(
            f"data.init_args: need block_size >= 1 and 0 <= overlap < block_size, got {block_size} and {overlap}."
        )
    if streams and overlap:
        raise UserError("data.init_args.overlap: streams carry their state instead; leave one of both out.")
    if not 0 < val_size < 1 or not 0 <= test_size < 1 or val_size + test_size >= 1:
        raise UserError(
            "data.init_args: need val_size and test_size as shares whose sum is below 1, such as 0.1, and val_size "
            f"above 0, got {val_size} and {test_size}."
        )
