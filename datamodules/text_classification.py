"""Texts with one label each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from datamodules.base import BaseDataModule
from datamodules.docstrings import docstrings
from datamodules.image_reader import existing
from datamodules.labelled_text import Column, Row, read_rows
from datamodules.labelled_texts import LabelledTexts
from datamodules.length_sampler import LengthSampler
from datamodules.sampler import TrainSampler
from datamodules.splits import stratified_split
from datamodules.text_baselines import TextBaselines
from toolkit.errors import UserError
from toolkit.language.byte_pair_tokenizer import BytePairTokenizer
from toolkit.language.tokenizer import Tokenizer
from toolkit.types import Baseline, Stage

Rows = dict[Stage, list[Row]]


class TextClassificationDataModule(BaseDataModule):
    """Files of texts and labels; by default the standard library's docstrings, labelled with their package.

    Classes are the labels of the training file, in the order of their names. Tokenizer and baselines see the training
    split alone. Texts of the training file that stood before are left out before validation is cut from it; texts that
    stand in two files are counted, told and kept. Batches are padded to their longest text.

    Args:
        train: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.seq.in`` file, see `datamodules.labelled_text.read_rows`; the
            embedded docstrings if None (their text differs between versions of Python).
        val: The same; a share of ``train`` if None.
        test: The same; no test split if None.
        text_column: Name of the column, or its number from 0 in files without header.
        label_column: Likewise.
        tokenizer: Trained on the training split; `BytePairTokenizer` with 4,096 tokens if None.
        max_length: Tokens of a text that are read, a pretrained model's marks included; the rest is left out, and told.
        shots: Train on so many texts of each class, drawn by ``split_seed``; None: on all.
        val_size: Share of ``train`` for validation, where there is no file; of the docstrings as much for test.
        split_seed: Which texts are held out or drawn; the same for all seeds of a run.
        length_window: Sort the texts of so many steps at a time by length, for less padding; 0: none.
        **loader: ``batch_size``, ``num_workers`` and ``eval_batch_size`` of `datamodules.base.BaseDataModule`.

    Raises:
        UserError: A file cannot be read (with the line), a label is not in the training file, there are too few texts,
            or a number is out of range.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        text_column: Column = "text",
        label_column: Column = "label",
        tokenizer: Tokenizer | None = None,
        max_length: int = 256,
        shots: int | None = None,
        val_size: float = 0.1,
        split_seed: int = 0,
        length_window: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        _check(max_length, shots, val_size, length_window)
        self._max_length, self.length_window = max_length, length_window
        if train is None:
            rows = _embedded(val, test, val_size, split_seed)
        else:
            rows = _read({"train": train, "val": val, "test": test}, text_column, label_column)
            if val is None:
                rows["train"], rows["val"] = _held_out(_distinct(rows["train"]), val_size, split_seed)
        self._class_names = sorted({row.label for row in rows["train"]})
        if len(self._class_names) < 2:
            raise UserError(f"data.init_args.train: need two labels at least, there is {self._class_names[0]!r} alone.")
        labels = {stage: _numbers(found, self._class_names, stage) for stage, found in rows.items()}
        if shots is not None:
            chosen = _few(labels["train"], self._class_names, shots, split_seed)
            rows["train"] = [rows["train"][n] for n in chosen]
            labels["train"] = labels["train"][chosen]
        _tell_copies(rows)
        self._tokenizer = (tokenizer or BytePairTokenizer(4096)).trained((row.text for row in rows["train"]), None)
        self._baselines = TextBaselines([row.text for row in rows["train"]], labels["train"], len(self._class_names))
        self._texts = {stage: [row.text for row in found] for stage, found in rows.items()}
        self._splits = {
            stage: LabelledTexts(tokenised(rows[stage], self._tokenizer, max_length, stage), labels[stage])
            for stage in rows
        }

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self._class_names)

    @property
    def class_names(self) -> list[str]:
        """The labels of the training split, ascending."""
        return list(self._class_names)

    @property
    def vocabulary(self) -> dict[str, Any]:
        """The trained tokenizer as plain values."""
        return self._tokenizer.vocabulary()

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self._tokenizer.size

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read."""
        return self._max_length

    @property
    def pretrained(self) -> str | None:
        """The pretrained model that the tokenizer is of; None for one that was trained here."""
        return self._tokenizer.pretrained

    def dataset(self, stage: Stage) -> LabelledTexts:
        """The texts of a split."""
        if stage not in self._splits:
            raise UserError("data: there is no test split; write data.init_args.test, a file.")
        self._splits[stage].seed = self.seed
        return self._splits[stage]

    def lengths(self, stage: Stage) -> torch.Tensor | None:
        """Tokens of each text of a split, ``(M,)``; None: there is no such split."""
        return self._splits[stage].length if stage in self._splits else None

    def baseline(self, stage: Stage) -> Baseline:
        """The most frequent class of the training split; beside it logistic regression on TF-IDF."""
        return self._baselines.of(self._texts[stage], self._splits[stage].label)

    def _train_sampler(self, length: int, rank: int, world_size: int, accumulate: int) -> TrainSampler:
        options = (length, self.batch_size, self.seed, rank, world_size, accumulate)
        if not self.length_window:
            return TrainSampler(*options)
        return LengthSampler(self._splits["train"].length, self.length_window, *options)


def tokenised(rows: Sequence[Row], tokenizer: Tokenizer, max_length: int | None, where: str) -> list[np.ndarray]:
    """The tokens of each text as a classifier reads them; how many were cut is told.

    Raises:
        UserError: The vocabulary cannot spell a text; with its place.
    """
    texts = []
    cut = 0
    for row in rows:
        try:
            tokens = tokenizer.encode(row.text)
        except UserError as error:
            raise UserError(f"{row.place}: {error}") from error
        kept = tokenizer.framed(tokens, max_length)
        cut += len(kept) < len(tokenizer.framed(tokens))
        texts.append(kept)
    if cut:
        rank_zero_warn(
            f"{where}: {cut} of {len(rows)} texts are longer than {max_length} tokens; their rest is not read."
        )
    return texts


def _read(paths: dict[Stage, str | None], text_column: Column, label_column: Column) -> Rows:
    return {
        stage: read_rows(existing(path, f"data.init_args.{stage}"), text_column, label_column)
        for stage, path in paths.items()
        if path is not None
    }


def _embedded(val: str | None, test: str | None, share: float, seed: int) -> Rows:
    if val is not None or test is not None:
        raise UserError("data.init_args.train: there is a file for val or test, but none for training; give one.")
    rest, test_rows = _held_out(list(docstrings()), share, seed)
    train_rows, val_rows = _held_out(rest, share, seed + 1)
    return {"train": train_rows, "val": val_rows, "test": test_rows}


def _distinct(rows: list[Row]) -> list[Row]:
    kept = list({row.text: row for row in reversed(rows)}.values())[::-1]
    if left_out := len(rows) - len(kept):
        rank_zero_info(f"data: {left_out} of {len(rows)} texts for training stood before, and are left out")
    return kept


def _held_out(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    names = sorted({row.label for row in rows})
    kept, held_out = stratified_split(_numbers(rows, names, "train"), share, seed)
    if not len(held_out):
        raise UserError(f"data: {len(rows)} texts are too few to hold out a share of {share}; give data.init_args.val.")
    return [rows[n] for n in kept], [rows[n] for n in held_out]


def _numbers(rows: Sequence[Row], names: Sequence[str], stage: Stage) -> torch.Tensor:
    number = {name: place for place, name in enumerate(names)}
    for row in rows:
        if row.label not in number:
            raise UserError(
                f"data: {row.place}: the label {row.label!r} of {stage} is not among the {len(names)} of the training "
                f"file, such as {', '.join(map(repr, names[:3]))}."
            )
    return torch.tensor([number[row.label] for row in rows])


def _few(label: torch.Tensor, names: Sequence[str], shots: int, seed: int) -> torch.Tensor:
    """The numbers, ascending, of so many texts of each class."""
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    chosen = []
    for number, name in enumerate(names):
        own = order[label[order] == number]
        if len(own) < shots:
            raise UserError(
                f"data.init_args.shots: {shots} are asked for, but {name!r} has {len(own)} texts to train on."
            )
        chosen.append(own[:shots])
    return torch.cat(chosen).sort().values


def _tell_copies(rows: Rows) -> None:
    """Warn of texts that stand in two splits."""
    seen: dict[str, Stage] = {}
    copies: list[str] = []
    for stage, found in rows.items():
        texts = {row.text: row for row in found}
        copies += [f"{row.place} ({stage} and {seen[text]})" for text, row in texts.items() if text in seen]
        seen = dict.fromkeys(texts, stage) | seen
    if copies:
        rank_zero_warn(f"data: {len(copies)} texts stand in two splits, such as {copies[0]}; scores are too good.")


def _check(max_length: int, shots: int | None, val_size: float, length_window: int) -> None:
    if max_length < 3 or (shots is not None and shots < 1) or length_window < 0:
        raise UserError(
            "data.init_args: need max_length >= 3, shots >= 1 and length_window >= 0, got "
            f"{max_length}, {shots} and {length_window}."
        )
    if not 0 < val_size < 0.5:
        raise UserError(f"data.init_args.val_size: need a share in (0, 0.5), got {val_size}.")
