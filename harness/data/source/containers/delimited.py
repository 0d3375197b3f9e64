"""Reads csv and tsv files whose first line names the columns. Values stay text: no type is guessed."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from harness.data.source.containers.lines import numbered_lines
from harness.data.source.containers.rows import BadRow, Row, Rows, TextRow

csv.field_size_limit(sys.maxsize)  # a field may be longer than the 131,072 characters that the library allows
_NAME_OF = {",": "a comma", "\t": "a tab"}


def csv_rows(path: str) -> Rows:
    """Rows of comma-separated values."""
    return _rows(path, ",")


def tsv_rows(path: str) -> Rows:
    """Rows of tab-separated values."""
    return _rows(path, "\t")


class _Lines:
    """The lines of a file for the csv reader: counts them, and notes a line that is not UTF-8.

    fewest, most: how often the delimiter stands in one of the lines since `begin`, blank ones aside.
    """

    def __init__(self, path: str, delimiter: str) -> None:
        self.line = 0
        self.bad_row: BadRow | None = None
        self._lines, self._delimiter = numbered_lines(path), delimiter
        self.begin()

    def begin(self) -> None:
        """Begin a new row."""
        self.fewest, self.most = sys.maxsize, 0

    def __iter__(self) -> Iterator[str]:
        for line, content in self._lines:
            self.line = line
            if isinstance(content, BadRow):
                self.bad_row = content
                yield "\n"
                continue
            if content.strip():
                delimiters = content.count(self._delimiter)
                self.fewest, self.most = min(self.fewest, delimiters), max(self.most, delimiters)
            yield content


def _rows(path: str, delimiter: str) -> Rows:
    """Blank lines are skipped. A row's number is that of its first line in the file.

    Raises:
        ValueError: the first line does not name the columns, each once.
    """
    lines = _Lines(path, delimiter)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start, bad_row = lines.line + 1, None
        lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fields, bad_row = [""], _broken_quotes(str(error))
            if header is None:  # a later line must not be taken for the names
                expected = f"a first line that names each column once, with {_NAME_OF[delimiter]} between them"
                raise ValueError(replace(bad_row, expected=expected).message(path, lines.line)) from error
        if delimiter == "\t" and header and lines.line > start and lines.fewest == lines.most == len(header) - 1 > 0:
            # A quote that nobody meant as one joins rows that are whole, as in texts that begin or end with a quote.
            bad_row = _broken_quotes(f"they join lines {start} to {lines.line}, each of which is a whole row")
        if lines.bad_row is not None:
            bad_row, lines.bad_row = lines.bad_row, None
        if bad_row is not None:
            yield lines.line, bad_row
        elif not fields or fields == [""] or not "".join(fields).strip():
            continue
        elif header is None:
            header = _checked_header(path, start, fields)
        else:
            yield start, _row(header, fields)


def _broken_quotes(problem: str) -> BadRow:
    return BadRow("row", f"broken quotes ({problem})", 'quotes as in "one ""quoted"" text"')


def _checked_header(path: str, line: int, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    repeated = next((name for name, count in Counter(names).items() if count > 1 or not name), None)
    if repeated is not None:
        got = f"{repeated!r} twice" if repeated else "a column without a name"
        raise ValueError(f"{path}:{line}: columns: got {got}, expected a first line that names each column once")
    return names


def _row(header: list[str], fields: list[str]) -> Row | BadRow:
    if len(fields) != len(header):
        return BadRow("row", f"{len(fields)} fields", f"one for each of the {len(header)} columns of the first line")
    return TextRow(zip(header, fields, strict=True))
