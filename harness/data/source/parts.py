"""Cuts a file into parts that several processes can read at once: lines of JSON, or batches of a parquet file.

The parts hold what one process has read (and unpacked), so that packed files and files of any layout are shared alike.
Other files are read as a whole: csv and tsv, whose cells may hold line ends, a JSON list, and data sets of `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from harness.data.source.columns.foreign import ForeignFormat
from harness.data.source.columns.row_format import RowFormat
from harness.data.source.containers.arrow_files import arrow_rows, parquet_batches
from harness.data.source.containers.json_files import is_one_list, json_line_rows, line_rows_of_json
from harness.data.source.containers.lines import OPENER_OF_SUFFIX, Lines, parts_of_lines
from harness.data.source.containers.rows import Rows
from harness.data.source.containers.table import suffix_of

PART_BYTES = 2_000_000
_JSON, _JSON_LINES = (
    {suffix + packed for suffix in suffixes for packed in OPENER_OF_SUFFIX}
    for suffixes in ((".json",), (".jsonl", ".ndjson"))
)


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, one after another; the first has the number `first`, the one after the last `stop`."""

    path: str
    first: int
    stop: int
    content: bytes | pa.RecordBatch

    def rows(self) -> Rows:
        """(line or row number, row), as reading the whole file gives them."""
        if not isinstance(self.content, bytes):
            return arrow_rows(self.content, self.first)
        lines = Lines(self.first, self.content, self.stop)
        reader = line_rows_of_json if suffix_of(self.path) in _JSON else json_line_rows
        return reader(self.path, lines)


@dataclass(frozen=True, slots=True)
class FileHead:
    """What the first rows of a file say about all of them; see `SourceReader.head`."""

    row_format: RowFormat
    foreign: ForeignFormat | None


def parts_of(path: str) -> Iterator[Part] | None:
    """The parts of a file in the order of its rows; None if it must be read as a whole.

    Raises:
        ValueError: when the parts are taken: the file ends before it is complete, or cannot be read.
    """
    suffix = suffix_of(path)
    if not Path(path).is_file():
        return None
    if suffix == ".parquet":
        return _batches(path)
    if suffix in _JSON_LINES or (suffix in _JSON and not is_one_list(path)):
        return (Part(path, lines.first, lines.stop, lines.content) for lines in parts_of_lines(path, PART_BYTES))
    return None


def _batches(path: str) -> Iterator[Part]:
    first = 1
    for batch in parquet_batches(path):
        yield Part(path, first, first + batch.num_rows, batch)
        first += batch.num_rows
