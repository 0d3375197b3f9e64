"""Which reader opens which file type. To add one, write a function in this folder and add its suffix here.

The function turns a path into a stream of rows. It gives numbers as numbers and lists as lists (or `TextRow`s, where a
file holds nothing but text): the values of a row have the types of the columns in `formats.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.data.source.containers.arrow_files import parquet_rows
from harness.data.source.containers.delimited import csv_rows, tsv_rows
from harness.data.source.containers.json_files import json_line_rows, json_rows
from harness.data.source.containers.lines import OPENER_OF_SUFFIX
from harness.data.source.containers.rows import Rows

_TEXT_READERS: dict[str, Callable[[str], Rows]] = {
    ".jsonl": json_line_rows,
    ".json": json_rows,
    ".ndjson": json_line_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
}
# The order matters: code that looks for a file NAME with any of these suffixes uses the first file that exists.
READER_OF_SUFFIX: dict[str, Callable[[str], Rows]] = {
    **{suffix + packed: reader for suffix, reader in _TEXT_READERS.items() for packed in OPENER_OF_SUFFIX},
    ".parquet": parquet_rows,
}
FILE_SUFFIXES = tuple(READER_OF_SUFFIX)
KNOWN_FILES = f"{', '.join(_TEXT_READERS)} (also packed: {', '.join(filter(None, OPENER_OF_SUFFIX))}) or .parquet"
_SAVED_DATASET = ("state.json", "dataset_dict.json")  # one of them lies in every folder that save_to_disk wrote


def suffix_of(name: str) -> str | None:
    """The suffix by which a file is read; None if it cannot be read."""
    return next((suffix for suffix in FILE_SUFFIXES if name.endswith(suffix)), None)


def is_saved_dataset(path: Path) -> bool:
    """Whether datasets' save_to_disk wrote this folder."""
    return any((path / name).is_file() for name in _SAVED_DATASET)
