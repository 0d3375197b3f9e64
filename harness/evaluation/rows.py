"""Reads rows of evaluation data. A bad row raises ValueError: `FILE:LINE: FIELD: got ..., expected ...`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.source import files
from harness.data.source.files import FILE_SUFFIXES, BadRow, Row


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank."""
    for line, content in files.read_lines(str(file)):
        if isinstance(content, BadRow):
            raise ValueError(content.message(file, line))
        yield line, content


def read_rows(file: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of every row."""
    for line, row in files.read_rows(str(file), "test"):
        if isinstance(row, BadRow):
            raise ValueError(row.message(file, line))
        yield line, row


def first_row(file: Path) -> Row:
    """The first row; an empty dict for an empty file."""
    return next((row for _, row in read_rows(file)), {})


def file_called(folder: Path, stem: str) -> Path | None:
    """The folder's file with this name and any suffix that can be read; None if there is none."""
    places = (folder / f"{stem}{suffix}" for suffix in FILE_SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def text_field(file: Path, line: int, row: Row, field: str, may_be_empty: bool = False) -> str:
    """The text in a field of a row."""
    value = row.get(field)
    if isinstance(value, str) and (may_be_empty or value.strip()):
        return value
    got = value if field in row else "nothing"
    raise bad_field(file, line, field, got, "a text" if may_be_empty else "a text, not empty")


def bad_field(file: Path, line: int, field: str, got: object, expected: str) -> ValueError:
    """The error to raise for an invalid field of a row."""
    shown = got if isinstance(got, str) else repr(got)
    return ValueError(BadRow(field, shown[:80], expected).message(file, line))


def labelled_texts(file: Path) -> tuple[list[str], list[str]]:
    """(texts, labels) of a file of `text, label`; a whole number as a label becomes a text.

    Raises:
        ValueError: a row is bad, or there are no rows.
    """
    texts: list[str] = []
    labels: list[str] = []
    for line, row in read_rows(file):
        texts.append(text_field(file, line, row, "text"))
        label = row.get("label")
        if not isinstance(label, str | int) or label == "":
            raise bad_field(file, line, "label", label, "a text or a whole number")
        labels.append(str(label))
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts, labels
