"""Texts and their translations."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from datamodules.base import BaseDataModule
from datamodules.bucket_sampler import BucketSampler
from datamodules.dictionary import Dictionary
from datamodules.parallel_files import Pair, read_pairs
from datamodules.parallel_texts import ParallelTexts, TokenTexts
from datamodules.sampler import KeyedSampler
from datamodules.written_dates import written_dates
from toolkit.errors import UserError
from toolkit.language.byte_pair_tokenizer import BytePairTokenizer
from toolkit.language.tokenizer import Tokenizer
from toolkit.metrics.translation_scores import corpus_scores
from toolkit.types import Baseline, Stage


class ParallelTextDataModule(BaseDataModule):
    """Two aligned files a split, whose lines translate each other; by default days as people write them, to ISO 8601.

    Or one file a split, whose lines are source, tab, target; ``.gz`` is unpacked. Without files for validation a share
    of the training pairs is held out, after exact copies are left out; copies between splits of yours are told.
    Tokenizers see the training split alone: one for both languages, or one for each. Batches hold pairs of like
    lengths; every pair comes once an epoch, in a keyed order.

    Args:
        train: ``[source, target]``, or one file; the embedded dates if None.
        val: Likewise; held out of the training pairs if None.
        test: Likewise; no test split if None and ``val`` is given.
        tokenizer: Trained on both languages, or on the source if there is one for the target; merged bytes if None.
        target_tokenizer: Of a vocabulary of the target's own; None: a joint one.
        max_tokens: Tokens in a global batch, padding included, on the longer side; None: ``batch_size`` pairs.
        max_length: Tokens of a text with its end; the rest of a longer one is left out, and told.
        val_size: Share of the pairs.
        test_size: Share of the pairs, where there is no file; 0: no test split.
        split_seed: Which pairs are held out; the same for all seeds of a run.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: Files that are missing, not aligned (with the line), or no UTF-8 (with the place); a number out of
            range.
    """

    def __init__(
        self,
        train: str | list[str] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        tokenizer: Tokenizer | None = None,
        target_tokenizer: Tokenizer | None = None,
        max_tokens: int | None = None,
        max_length: int = 256,
        val_size: float = 0.1,
        test_size: float = 0.1,
        split_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        _check(max_tokens, max_length, val_size, test_size)
        self.max_tokens, self.max_length = max_tokens, max_length
        if train is None and (val is not None or test is not None):
            raise UserError("data.init_args.train: val or test is given without it; write train: [train.de, train.en].")
        held_out = {"test": test_size if test is None else 0.0, "val": val_size}
        self.pairs = _read(train, val, test) if val is not None else _split(_groups(train), held_out, split_seed)
        if val is None and test is not None:
            self.pairs["test"] = read_pairs(_listed(test), "data.init_args.test")
        _tell_copies(self.pairs)
        self._source, self._target = self._trained(tokenizer or BytePairTokenizer(), target_tokenizer)
        self._datasets = {stage: self._tokenised(stage, pairs) for stage, pairs in self.pairs.items()}

    @property
    def source_vocabulary(self) -> dict[str, Any]:
        """The source's tokenizer as plain values."""
        return self._source.vocabulary()

    @property
    def target_vocabulary(self) -> dict[str, Any]:
        """The target's, which may be the same."""
        return self._target.vocabulary()

    @property
    def source_vocabulary_size(self) -> int:
        """Tokens of the source's vocabulary."""
        return self._source.size

    @property
    def target_vocabulary_size(self) -> int:
        """V."""
        return self._target.size

    def dataset(self, stage: Stage) -> ParallelTexts:
        """The pairs of a split."""
        if stage not in self._datasets:
            raise UserError(f"data: there is no {stage} split; write data.init_args.{stage}: [{stage}.de, {stage}.en].")
        self._datasets[stage].seed = self.seed
        return self._datasets[stage]

    def baseline(self, stage: Stage) -> Baseline:
        """The source text, untranslated; and translated word by word, with a dictionary of the training split."""
        source, target = zip(*self.pairs[stage], strict=True)
        words = [self._dictionary.translate(text) for text in source]
        other = Baseline("dictionary", corpus_scores(words, target))
        return Baseline("copy of the source", corpus_scores(source, target), (other,))

    @cached_property
    def _dictionary(self) -> Dictionary:
        return Dictionary(self.pairs["train"])

    def state_dict(self) -> dict[str, Any]:
        """What decides which pairs make up which batch."""
        return super().state_dict() | {"max_tokens": self.max_tokens}

    def _train_sampler(self, length: int, rank: int, world_size: int, accumulate: int) -> KeyedSampler:
        lengths = self.dataset("train").lengths()
        return BucketSampler(lengths, self.batch_size, self.max_tokens, self.seed, rank, world_size, accumulate)

    # Tokens -----------------------------------------------------------------------------------------------------------

    def _trained(self, tokenizer: Tokenizer, target_tokenizer: Tokenizer | None) -> tuple[Tokenizer, Tokenizer]:
        source, target = zip(*self.pairs["train"], strict=True)
        if target_tokenizer is None:
            joint = tokenizer.trained([*source, *target], "")
            return joint, joint
        return tokenizer.trained(source, ""), target_tokenizer.trained(target, "")

    def _tokenised(self, stage: Stage, pairs: Sequence[Pair]) -> ParallelTexts:
        source = _encoded(self._source, (pair[0] for pair in pairs), f"{stage} split: source")
        target = _encoded(self._target, (pair[1] for pair in pairs), f"{stage} split: target")
        # what is translated is scored against the whole reference, so that of an evaluation is never cut
        sides = {"source": source, "target": target} if stage == "train" else {"source": source}
        for name, texts in sides.items():
            if cut := sum(len(text) >= self.max_length for text in texts):
                rank_zero_warn(
                    f"data: {cut} of {len(texts)} {name} texts of the {stage} split are longer than {self.max_length} "
                    "tokens with their end, and their rest is left out; raise data.init_args.max_length to keep it."
                )
                texts[:] = [text[: self.max_length - 1] for text in texts]
        assert self._target.end_token is not None
        return ParallelTexts(
            _ended(source, self._source),
            _ended(target, self._target),
            end=self._target.end_token,
            by_length=stage != "train",
        )


def _encoded(tokenizer: Tokenizer, texts: Iterable[str], where: str) -> list[np.ndarray]:
    encoded = []
    for number, text in enumerate(texts, start=1):
        try:
            encoded.append(tokenizer.encode(text))
        except UserError as error:
            raise UserError(f"data: {where} of pair {number}, {text[:60]!r}: {error}") from error
    return encoded


def _ended(texts: Sequence[np.ndarray], tokenizer: Tokenizer) -> TokenTexts:
    end = np.array([tokenizer.end_token], dtype=np.uint32)
    return TokenTexts([np.concatenate([text, end]) for text in texts])


# Splits ---------------------------------------------------------------------------------------------------------------


def _listed(files: str | list[str]) -> list[str]:
    return [files] if isinstance(files, str) else files


def _read(
    train: str | list[str] | None, val: str | list[str] | None, test: str | list[str] | None
) -> dict[Stage, list[Pair]]:
    given: dict[Stage, str | list[str] | None] = {"train": train, "val": val, "test": test}
    return {
        stage: read_pairs(_listed(files), f"data.init_args.{stage}")
        for stage, files in given.items()
        if files is not None
    }


def _groups(train: str | list[str] | None) -> list[list[Pair]]:
    """Pairs that belong into one split: the forms of a day, or of a text its translations."""
    if train is None:
        return written_dates()
    pairs = read_pairs(_listed(train), "data.init_args.train")
    groups: dict[str, list[Pair]] = {}
    for pair in dict.fromkeys(pairs):
        groups.setdefault(pair[0], []).append(pair)
    if copies := len(pairs) - len(set(pairs)):
        rank_zero_info(f"data: {copies} of {len(pairs)} pairs stood before, and are left out")
    return list(groups.values())


def _split(groups: list[list[Pair]], held_out: Mapping[str, float], seed: int) -> dict[Stage, list[Pair]]:
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    counts = {stage: round(share * len(groups)) for stage, share in held_out.items()}
    if counts["val"] < 1 or len(groups) <= sum(counts.values()):
        raise UserError(
            f"data.init_args.train: {len(groups)} different texts are too few to hold some out; give "
            "data.init_args.val."
        )
    test, val, train = np.split(np.array(order), np.cumsum([counts["test"], counts["val"]]))
    numbers: dict[Stage, np.ndarray] = {"train": train, "val": val, "test": test}
    return {
        stage: [pair for number in of_stage.tolist() for pair in groups[number]]
        for stage, of_stage in numbers.items()
        if len(of_stage)
    }


def _tell_copies(pairs: Mapping[Stage, Sequence[Pair]]) -> None:
    """Warn of pairs that stand in two splits."""
    seen: dict[Pair, Stage] = {}
    copies = []
    for stage, of_stage in pairs.items():
        copies += [f"{pair[0][:60]!r} ({stage} and {seen[pair]})" for pair in dict.fromkeys(of_stage) if pair in seen]
        seen |= dict.fromkeys(of_stage, stage)
    if copies:
        rank_zero_warn(f"data: {len(copies)} pairs stand in two splits, such as {copies[0]}; scores are too good.")


def _check(max_tokens: int | None, max_length: int, val_size: float, test_size: float) -> None:
    if max_length < 2 or (max_tokens is not None and max_tokens < 1):
        raise UserError(f"data.init_args: need max_length >= 2 and max_tokens >= 1, got {max_length} and {max_tokens}.")
    if not 0 < val_size < 1 or not 0 <= test_size < 1 or val_size + test_size >= 1:
        raise UserError(
            "data.init_args: need val_size and test_size as shares whose sum is below 1, such as 0.1, and val_size "
            f"above 0, got {val_size} and {test_size}."
        )
