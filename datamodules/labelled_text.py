"""Rows of text and label, from tables of several formats; every error says where."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.text_files import lines_of
from toolkit.errors import UserError
from toolkit.language.tokenizer import refuse_half_characters

Column = int | str
"""A name, or a number counted from 0 in a file without header."""
FORMATS = (".csv", ".tsv", ".jsonl", ".seq.in")
LONGEST_FIELD = 2**31 - 1
"""Characters; the standard library's own limit of 131,072 is short for documents."""


class Row(NamedTuple):
    """One labelled text."""

    text: str
    label: str
    place: str
    """File and line."""


def read_rows(path: Path, text_column: Column, label_column: Column) -> list[Row]:
    """The rows of a file whose name says its format.

    ``.csv`` and ``.tsv`` have a header if columns are given by name; a ``.tsv`` knows no quotes. ``.jsonl`` has an
    object a line. ``NAME.seq.in`` has a text a line, and ``NAME.label`` beside it the label of each (Goo et al.,
    "Slot-Gated Modeling for Joint Slot Filling and Intent Prediction", NAACL 2018).

    Raises:
        UserError: No such format, no UTF-8, nothing in it, a column that is not there, or a row without text or label.
    """
    text = _read(path)
    if not text.strip():
        raise UserError(f"data: {str(path)!r} is empty; give a file with texts and labels.")
    if path.name.endswith(".seq.in"):
        fields = _aligned(path, text)
    elif path.suffix == ".jsonl":
        fields = _objects(path, text, text_column, label_column)
    elif path.suffix in (".csv", ".tsv"):
        fields = _table(path, text, text_column, label_column)
    else:
        raise UserError(f"data: {str(path)!r}: the name must end in one of {', '.join(FORMATS)}.")
    rows = []
    for found, label, place in fields:
        if not found.strip() or not label.strip():
            raise UserError(f"data: {place}: the row has no {'label' if found.strip() else 'text'}; leave it out.")
        rows.append(Row(found.strip(), label.strip(), place))
    if not rows:
        raise UserError(f"data: {str(path)!r} has no rows but its header; give a file with texts and labels.")
    return rows


def _read(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"data: {path}:{line}: byte {error.start} of the file is {data[error.start]:#04x}, which is no UTF-8 "
            f"({error.reason}). Convert it, such as with iconv -f LATIN1 -t UTF-8."
        ) from error


def _table(path: Path, text: str, text_column: Column, label_column: Column) -> Iterator[tuple[str, str, str]]:
    quotes = {"delimiter": ","} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader: Any = csv.reader((line + "\n" for line in lines_of(text)), strict=True, **quotes)
        if isinstance(text_column, str) or isinstance(label_column, str):
            header: list[str] = next(reader, [])
            text_column, label_column = _number(path, text_column, header), _number(path, label_column, header)
        last = max(text_column, label_column)
        first = reader.line_num + 1
        for row in reader:
            place, first = f"{path}:{first}", reader.line_num + 1
            if not row:
                continue
            if len(row) <= last:
                raise UserError(
                    f"data: {place}: the row has {len(row)} columns, and number {last} is needed, counted from 0; mend "
                    "it, or write other data.init_args.text_column and label_column."
                )
            yield row[text_column], row[label_column], place
    except csv.Error as error:
        raise UserError(f"data: {path}:{reader.line_num}: the row cannot be read ({error}).") from error
    finally:
        csv.field_size_limit(before)


def _number(path: Path, column: Column, header: list[str]) -> int:
    if isinstance(column, int):
        return column
    names = [name.strip() for name in header]
    if column not in names:
        raise UserError(
            f"data: {path}:1: there is no column {column!r}, only {', '.join(map(repr, names))}; write "
            "data.init_args.text_column and label_column, as numbers from 0 for a file without header."
        )
    return names.index(column)


def _objects(path: Path, text: str, text_column: Column, label_column: Column) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(lines_of(text), start=1):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise UserError(f"data: {place}: the line is no JSON ({error}).") from error
        missing = [c for c in (text_column, label_column) if not isinstance(content, dict) or c not in content]
        if missing:
            names = ", ".join(content) if isinstance(content, dict) else type(content).__name__
            raise UserError(
                f"data: {place}: the object has no {missing[0]!r}, only {names}; write data.init_args.text_column and "
                "label_column."
            )
        found, label = ("" if content[c] is None else str(content[c]) for c in (text_column, label_column))
        try:
            refuse_half_characters(found + label)
        except UserError as error:
            raise UserError(f"data: {place}: {error}") from error
        yield found, label, place


def _aligned(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    beside = path.with_name(f"{path.name.removesuffix('.seq.in')}.label")
    if not beside.is_file():
        raise UserError(f"data: {str(path)!r} needs its labels beside it, a line each, in {beside.name!r}.")
    texts, labels = lines_of(text), lines_of(_read(beside))
    if len(texts) != len(labels):
        raise UserError(f"data: {str(path)!r} has {len(texts)} lines, and {beside.name!r} has {len(labels)}.")
    for number, (found, label) in enumerate(zip(texts, labels, strict=True), start=1):
        yield found, label, f"{path}:{number}"
