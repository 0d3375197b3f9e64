"""Data stage 1: a source becomes a stream of (line, raw row), and its columns say what they hold.

Takes .jsonl, .json (one object per line), either with .gz, .parquet, a folder saved by `datasets`, or a hub name. Gives
one row at a time, so that a source of any size fits in memory. What cannot be read as a row is given as a `BadRow`;
what makes the rest of the source unreadable raises ValueError.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.types import SourceKind

if TYPE_CHECKING:
    from datasets import Dataset

JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
FILE_SUFFIXES = (*JSON_SUFFIXES, ".parquet")
ARROW_BATCH_ROWS = 1024
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be used."""

    field: str
    got: str
    expected: str

    def message(self, path: str, line: int) -> str:
        """One line: `PATH:LINE: FIELD: got ..., expected ...`."""
        return f"{path}:{line}: {self.field}: got {self.got}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Which columns hold what; all other columns are ignored."""

    kind: SourceKind
    texts: tuple[str, ...]  # one text each: the query, the two texts of a pair, the text to classify
    positive: str | None = None
    negative: str | None = None  # may be missing; NAME_1, NAME_2 ... are read as well
    bare_text: bool = True  # whether positive and negative may be one text instead of a list of texts
    positive_scores: str | None = None
    negative_scores: str | None = None
    prompt: str | None = None
    target: str | None = None  # the score or the label
    title: str | None = None  # stands before the text, with a space

    @property
    def required(self) -> tuple[str, ...]:
        return (*self.texts, *(name for name in (self.positive, self.target) if name))

    @property
    def optional(self) -> tuple[str, ...]:
        names = (self.negative, self.positive_scores, self.negative_scores, self.prompt, self.title)
        return tuple(name for name in names if name)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)

    def __str__(self) -> str:
        return "(" + ", ".join([*self.required, *(f"[{name}]" for name in self.optional)]) + ")"


FORMATS = (
    RowFormat("retrieval", ("query",), "pos", "neg", False, "pos_scores", "neg_scores", "prompt"),
    RowFormat("retrieval", ("query",), "positive", "negative"),
    RowFormat("retrieval", ("anchor",), "positive", "negative"),
    RowFormat("retrieval", ("prompt",), "response"),
    RowFormat("sts", ("text1", "text2"), target="score"),
    RowFormat("sts", ("sentence1", "sentence2"), target="score"),
    RowFormat("classification", ("text",), target="label"),
    RowFormat("corpus", ("text",), title="title"),
)


def detect_format(columns: Collection[str], kind: SourceKind) -> RowFormat | BadRow:
    """The first known format of `kind` whose required columns are all there.

    Without one, a BadRow: the missing column where it is plain which format is meant, else the known sets of columns.
    """
    known = [row_format for row_format in FORMATS if row_format.kind == kind]
    for row_format in known:
        if set(row_format.required) <= set(columns):
            return row_format
    other_kinds = {other.kind for other in FORMATS if set(other.required) <= set(columns)} - {"corpus"}
    found = [sum(name in columns for name in row_format.names) for row_format in known]
    if not other_kinds and max(found) > 0 and found.count(max(found)) == 1:
        meant = known[found.index(max(found))]
        missing = next(name for name in meant.required if name not in columns)
        return BadRow(missing, "no such field", f"the fields {meant}")
    hint = f"; these columns fit kind: {' or '.join(sorted(other_kinds))}" if other_kinds else ""
    seen = ascii(sorted(map(str, columns)))[1:-1][:200] or "none"
    return BadRow("columns", seen, f"{' or '.join(map(str, known))} for kind {kind}{hint}")


def read_rows(path: str, split: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Stream (1-based line or row number, raw row or BadRow) of a file, a folder saved by `datasets` or a hub name.

    Blank lines are passed over, and counted in the line numbers. `split` is used for a folder with several splits and for a hub name, which is tried only when no such path exists.

    Raises:
        ValueError: the source does not exist, is of no known format, or breaks off.
    """
    place = Path(path)
    if place.is_dir():
        return _dataset_rows(_load_folder(path, split))
    if place.is_file() and path.endswith(".parquet"):
        return _parquet_rows(path)
    if place.is_file() and path.endswith(JSON_SUFFIXES):
        return _json_rows(path)
    if place.is_file():
        raise ValueError(f"tasks.path: got {path!r}, expected a file ending in {', '.join(FILE_SUFFIXES)}")
    return _dataset_rows(_load_hub(path, split))


def _json_rows(path: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    line = 0
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as stream:
            for line, raw in enumerate(stream, start=1):
                # Some editors put a byte order mark before the first line; it is no part of the text.
                content = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                if content.strip():
                    yield line, _parse(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(_broken_off(path, line + 1, error)) from error


def _parse(raw: bytes) -> dict[str, Any] | BadRow:
    """The JSON object on one line, or why there is none."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("row", f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line", "UTF-8")
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return BadRow("row", f"broken JSON ({error.msg} at column {error.pos + 1})", "one JSON object per line")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        return BadRow("row", f"JSON that cannot be read ({type(error).__name__})", "one JSON object per line")
    if not isinstance(row, dict):
        return BadRow("row", f"a JSON {type(row).__name__}", "one JSON object per line")
    return row


def _parquet_rows(path: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    line = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(ARROW_BATCH_ROWS):
                for row in _arrow_rows(batch):
                    line += 1
                    yield line, row
    except (pa.ArrowException, OSError) as error:
        raise ValueError(_broken_off(path, line + 1, error)) from error


def _dataset_rows(dataset: Dataset) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    line = 0
    # Arrow format: images and audio in columns that nobody asked for are not decoded.
    for table in dataset.with_format("arrow").iter(ARROW_BATCH_ROWS):
        for row in _arrow_rows(table):
            line += 1
            yield line, row


def _arrow_rows(table: pa.Table | pa.RecordBatch) -> Iterator[dict[str, Any] | BadRow]:
    """The rows of an Arrow table; one whose strings are not UTF-8 is bad, and the others are still read."""
    try:
        yield from table.to_pylist()
    except UnicodeDecodeError:
        for i in range(table.num_rows):
            yield _arrow_row(table, i)


def _arrow_row(table: pa.Table | pa.RecordBatch, i: int) -> dict[str, Any] | BadRow:
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
    except Exception as error:  # the hub client raises its own, the transport's and the operating system's kinds
        raise ValueError(
            f"tasks.path: got {name!r}, which is no path here and cannot be loaded from the hub "
            f"({_first_line(error)}), expected {expected}; check tasks.path and tasks.split ({split!r})"
        ) from error


def _broken_off(path: str, line: int, error: Exception) -> str:
    return f"{path}:{line}: file: got {_first_line(error)}, expected a whole, readable file; fetch it again"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
