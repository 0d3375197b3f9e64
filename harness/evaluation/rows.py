"""Rows of .jsonl and .jsonl.gz files, and what is said of a bad one: `FILE:LINE: FIELD: got …, expected …`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(1-based number, content) of every line that is not blank."""
    number = 0
    with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                content = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if content.strip():
                    yield number, content
        except UnicodeDecodeError as error:
            raise bad_row(file, number, "text", f"byte {error.object[error.start]:#x}", "UTF-8") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{file}:{number + 1}: file: got {error}, expected a whole gzip file") from None


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based line, row) of every line that is not blank."""
    for number, content in read_lines(file):
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise bad_row(file, number, "row", f"{error.msg} at column {error.colno}", "JSON") from None
        if not isinstance(row, dict):
            raise bad_row(file, number, "row", type(row).__name__, "a JSON object")
        yield number, row


def first_row(file: Path) -> dict[str, Any]:
    """Empty for an empty file."""
    return next((row for _, row in read_rows(file)), {})


def text_field(file: Path, line: int, row: dict[str, Any], field: str, empty: bool = False) -> str:
    """The text in a field of a row, which may be empty only if `empty` says so."""
    value = row.get(field)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise bad_row(
            file, line, field, value if field in row else "nothing", "a text" if empty else "a text, not empty"
        )
    return value


def bad_row(file: Path, line: int, field: str, got: object, expected: str) -> ValueError:
    """What is wrong with a field of a row."""
    shown = got if isinstance(got, str) else repr(got)
    return ValueError(f"{file}:{line}: {field}: got {shown[:80]!s}, expected {expected}")
