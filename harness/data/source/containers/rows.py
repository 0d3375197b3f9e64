"""What every reader of a file yields: rows, and reasons why a row cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be used."""

    field: str
    got: str
    expected: str

    def message(self, path: str | Path, line: int) -> str:
        """One line: `PATH:LINE: FIELD: got ..., expected ...`."""
        return f"{path}:{line}: {self.field}: got {self.got}, expected {self.expected}"


class InvalidField(Exception):
    """Raised where a field of a row is wrong; caught where the whole row is known."""

    def __init__(self, field: str, got: str, expected: str) -> None:
        super().__init__(field)
        self.bad_row = BadRow(field, got, expected)


Row = dict[str, Any]  # a row as read from the file: column name to value
Rows = Iterator[tuple[int, Row | BadRow]]  # (line or row number from 1, row)


class TextRow(dict[str, Any]):
    """A row of a csv or tsv file: every value is text. `cells.py` makes numbers and lists of them."""


def first_line(error: Exception) -> str:
    """Type and first line of an error, at most about 200 characters."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def broken_off(path: str, line: int, error: Exception) -> str:
    """The message for a file that cannot be read to its end."""
    return f"{path}:{line}: file: got {first_line(error)}, expected a whole, readable file; fetch it again"
