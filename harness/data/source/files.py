"""Reads a file, a folder saved by `datasets`, or a hub data set as a stream of (line number, row).

This is the only module of the harness that opens data files; training, filtering and evaluation read through it. It
yields one row at a time, so that memory does not grow with the file. A row that cannot be read is yielded as a
`BadRow`. An error that makes the rest of the file unreadable raises ValueError.

To add a file type, write a function that turns a path into a stream of rows and add its suffix to `READER_OF_SUFFIX`.
The function gives numbers as numbers and lists as lists: the values of a row have the types of the columns in
`formats.py`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from datasets import Dataset

ARROW_BATCH_ROWS = 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be used."""

    field: str
    got: str
    expected: str

    def message(self, path: str | Path, line: int) -> str:
        """One line: `PATH:LINE: FIELD: got ..., expected ...`."""
        return f"{path}:{line}: {self.field}: got {self.got}, expected {self.expected}"


Row = dict[str, Any]  # a row as read from the file: column name to value
Rows = Iterator[tuple[int, Row | BadRow]]  # (line or row number from 1, row)


def read_rows(path: str, split: str) -> Rows:
    """Stream (line or row number from 1, row or BadRow) of a file, a folder saved by `datasets`, or a hub name.

    Blank lines are skipped but counted in the line numbers. `split` selects a split of a folder or of a hub data set. A
    name is looked up on the hub only if no file or folder has this path.

    Raises:
        ValueError: the source does not exist, has an unknown file type, or ends before it is complete.
    """
    place = Path(path)
    if place.is_dir():
        return _dataset_rows(_load_folder(path, split))
    if not place.is_file():
        return _dataset_rows(_load_hub(path, split))
    suffix = next((suffix for suffix in FILE_SUFFIXES if path.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"tasks.path: got {path!r}, expected a file ending in {', '.join(FILE_SUFFIXES)}")
    return READER_OF_SUFFIX[suffix](path)


def read_lines(path: str) -> Iterator[tuple[int, str | BadRow]]:
    """Stream (line number from 1, text with its line end) of every line that is not blank; .gz is decompressed.

    Raises:
        ValueError: the file ends before it is complete, or cannot be read.
    """
    line = 0
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as stream:
            for line, raw in enumerate(stream, start=1):
                # Some editors put a byte order mark before the first line; it does not belong to the text.
                content = _decode(raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw)
                if isinstance(content, BadRow) or content.strip():
                    yield line, content
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(_broken_off(path, line + 1, error)) from error


def _decode(raw: bytes) -> str | BadRow:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("row", f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line", "UTF-8")


def _json_rows(path: str) -> Rows:
    for line, content in read_lines(path):
        yield line, content if isinstance(content, BadRow) else _parse(content)


def _parse(text: str) -> Row | BadRow:
    """The JSON object on one line, or a BadRow that says why the line is not a JSON object."""
    expected = "one JSON object per line"
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return BadRow("row", f"broken JSON ({error.msg} at column {error.pos + 1})", expected)
    except (ValueError, RecursionError) as error:  # a number with thousands of digits; thousands of nested brackets
        return BadRow("row", f"JSON that cannot be read ({type(error).__name__})", expected)
    return row if isinstance(row, dict) else BadRow("row", f"a JSON {type(row).__name__}", expected)


def _parquet_rows(path: str) -> Rows:
    line = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(ARROW_BATCH_ROWS):
                for row in _arrow_rows(batch):
                    line += 1
                    yield line, row
    except (pa.ArrowException, OSError) as error:
        raise ValueError(_broken_off(path, line + 1, error)) from error


# The order matters: code that looks for a file NAME with any of these suffixes uses the first file that exists.
READER_OF_SUFFIX: dict[str, Callable[[str], Rows]] = {
    ".jsonl": _json_rows,
    ".jsonl.gz": _json_rows,
    ".json": _json_rows,  # one object per line, as in .jsonl
    ".json.gz": _json_rows,
    ".parquet": _parquet_rows,
}
FILE_SUFFIXES = tuple(READER_OF_SUFFIX)


def _dataset_rows(dataset: Dataset) -> Rows:
    line = 0
    # Arrow format, so that images and audio in columns that the harness ignores are not decoded.
    for table in dataset.with_format("arrow").iter(ARROW_BATCH_ROWS):
        for row in _arrow_rows(table):
            line += 1
            yield line, row


def _arrow_rows(table: pa.Table | pa.RecordBatch) -> Iterator[Row | BadRow]:
    """The rows of an Arrow table. A row with strings that are not UTF-8 becomes a BadRow; the other rows are read."""
    try:
        yield from table.to_pylist()
    except UnicodeDecodeError:
        for i in range(table.num_rows):
            yield _arrow_row(table, i)


def _arrow_row(table: pa.Table | pa.RecordBatch, i: int) -> Row | BadRow:
    row = {}
    for name in table.schema.names:
        try:
            row[name] = table.column(name)[i].as_py()
        except UnicodeDecodeError as error:
            return BadRow(name, f"byte 0x{error.object[error.start]:02x} at byte {error.start + 1}", "UTF-8")
    return row


def _load_folder(path: str, split: str) -> Dataset:
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"tasks.path: got folder {path!r} ({_first_line(error)}), expected one written by datasets' save_to_disk"
        ) from error
    if not isinstance(loaded, DatasetDict):
        return loaded
    if split not in loaded:
        raise ValueError(f"tasks.split: got {split!r}, expected a split of {path!r}: {', '.join(loaded)}")
    return loaded[split]


def _load_hub(name: str, split: str) -> Dataset:
    expected = f"an existing file ({', '.join(FILE_SUFFIXES)}), a folder saved by datasets, or a hub name"
    if not _HUB_NAME.fullmatch(name) or name.endswith(FILE_SUFFIXES):
        raise ValueError(f"tasks.path: got {name!r}, which does not exist, expected {expected}")
    from datasets import load_dataset

    try:
        return load_dataset(name, split=split)
    except Exception as error:  # the hub client raises errors of many types: its own, HTTP and operating system errors
        raise ValueError(
            f"tasks.path: got {name!r}, which is no path here and cannot be loaded from the hub "
            f"({_first_line(error)}), expected {expected}; check tasks.path and tasks.split ({split!r})"
        ) from error


def _broken_off(path: str, line: int, error: Exception) -> str:
    return f"{path}:{line}: file: got {_first_line(error)}, expected a whole, readable file; fetch it again"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
