"""Reads rows of evaluation data. A bad row raises ValueError: `FILE:LINE: FIELD: got ..., expected ...`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.data.source import files
from harness.data.source.facts import IGNORE, FileFacts, ReadSettings
from harness.data.source.files import FILE_SUFFIXES, BadRow, Row
from harness.data.source.formats import FormattedRow, SourceReader
from harness.data.source.validation import validate
from harness.settings.in_short import in_short
from harness.types import Example, SourceKind

SPLIT = "test"  # of a folder with several splits
# What training's messages advise for a task of a recipe, and what serves evaluation data, which has no such keys.
_REMEDIES = (
    (re.compile(r"in the recipe's task, .* in mine and filter"), "rename the column, or remove it"),
    (
        re.compile(r"to read other names, map them in the recipe's task: columns: {(.*)} \(mine, filter: --columns\)"),
        r"rename the columns: \1",
    ),
    (re.compile(r"expected it in the recipe: .*"), "expected no such column in evaluation data; remove it"),
)


class _Missing:
    def __repr__(self) -> str:
        return "no such field"


MISSING = _Missing()


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank."""
    for line, content in files.read_lines(str(file)):
        if isinstance(content, BadRow):
            raise ValueError(content.message(file, line))
        yield line, content


def read_rows(file: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of every row."""
    for line, row in files.read_rows(str(file), SPLIT):
        if isinstance(row, BadRow):
            raise ValueError(row.message(file, line))
        yield line, row


def read_formatted(file: Path, kind: SourceKind, facts: FileFacts) -> Iterator[tuple[int, FormattedRow]]:
    """(line number from 1, row with the format of its columns) of every row, read as training reads this kind.

    facts: gets the columns that are not used, and the queries that are left out. A label beside an sts row's score is
    not used.
    """
    ignored: dict[str, tuple[str, ...]] = {IGNORE: ("label", "labels")} if kind == "sts" else {}
    reader = SourceReader(str(file), SPLIT, kind, ReadSettings(ignored))
    try:
        for line, row in (numbered for place in reader.files for numbered in reader.rows(place, facts)):
            if isinstance(row, BadRow):
                raise ValueError(row.message(file, line))
            yield line, row
    except ValueError as error:
        message = str(error)
        for pattern, words in _REMEDIES:
            message = pattern.sub(words, message)
        raise ValueError(message) from error


def example_of(file: Path, line: int, row: FormattedRow) -> Example:
    """The row as training would read it.

    Raises:
        ValueError: a field is bad.
    """
    example = validate(line, row.columns, row.row_format)
    if isinstance(example, BadRow):
        raise ValueError(example.message(file, line))
    return example


def read_examples(file: Path, kind: SourceKind, facts: FileFacts) -> Iterator[tuple[int, Example]]:
    """(line number from 1, example) of every row, read as training reads this kind. facts: see `read_formatted`."""
    for line, row in read_formatted(file, kind, facts):
        yield line, example_of(file, line, row)


def first_row(file: Path) -> Row:
    """The first row; an empty dict for an empty file."""
    return next((row for _, row in read_rows(file)), {})


def file_called(folder: Path, stem: str) -> Path | None:
    """The folder's file with this name and any suffix that can be read; None if there is none.

    Raises:
        ValueError: there are several.
    """
    found = [place for suffix in FILE_SUFFIXES if (place := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(
            f"{folder}: got {found[0].name} and {found[1].name}, expected one file called {stem}; remove the other"
        )
    return found[0] if found else None


def text_field(file: Path, line: int, row: Row, field: str, may_be_empty: bool = False) -> str:
    """The text in a field of a row."""
    value = row.get(field)
    if isinstance(value, str) and (may_be_empty or value.strip()):
        return value
    raise bad_field(file, line, field, row.get(field, MISSING), "a text" if may_be_empty else "a text, not empty")


def bad_field(file: Path, line: int, field: str, got: object, expected: str) -> ValueError:
    """The error to raise for an invalid field of a row. A text is shown in quotes: the text '1' is not the number 1."""
    shown = "null" if got is None else in_short(got, quoted=True)
    return ValueError(BadRow(field, shown[:80], expected).message(file, line))


def labelled_texts(file: Path, facts: FileFacts) -> tuple[list[str], list[str]]:
    """(texts, labels) of a file of `text, label`; a whole number as a label becomes a text.

    facts: see `read_formatted`.

    Raises:
        ValueError: a row is bad, or there are no rows.
    """
    texts: list[str] = []
    labels: list[str] = []
    for _, example in read_examples(file, "classification", facts):
        assert example.label is not None
        texts.append(example.texts[0])
        labels.append(example.label)
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts, labels
