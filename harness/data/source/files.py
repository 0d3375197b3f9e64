"""Reads a file, a folder, or a hub data set as a stream of (line number, row).

All data files are opened through this module; training, filtering, mining and evaluation read through it. It yields one
row at a time, so that memory does not grow with the file. A row that cannot be read is yielded as a `BadRow`. An error
that makes the rest of the file unreadable raises ValueError. `containers/table.py` lists the file types.
"""

from __future__ import annotations

from pathlib import Path

from harness.data.source.containers.arrow_files import hub_rows, saved_dataset_rows
from harness.data.source.containers.lines import read_lines
from harness.data.source.containers.rows import BadRow, Row, Rows, TextRow
from harness.data.source.containers.table import FILE_SUFFIXES, KNOWN_FILES, READER_OF_SUFFIX, suffix_of
from harness.data.source.shards import source_files

__all__ = ["FILE_SUFFIXES", "BadRow", "Row", "Rows", "TextRow", "read_file", "read_lines", "read_rows"]


def read_rows(path: str, split: str, config_name: str | None = None) -> Rows:
    """Stream (line or row number from 1, row or BadRow) of a file, a folder, a pattern of files, or a hub name.

    Blank lines are skipped but counted in the line numbers. `split` selects a split of a folder or of a hub data set,
    `config_name` a configuration of a hub data set. A name is looked up on the hub only if no file or folder has this
    path. The rows of several files follow one another, and each file's numbers start from 1.

    Raises:
        ValueError: the source does not exist, has an unknown file type, or ends before it is complete.
    """
    files = source_files(path, split)
    if len(files) == 1:
        return read_file(files[0], split, config_name)
    return (numbered for file in files for numbered in read_file(file, split, config_name))


def read_file(path: str, split: str, config_name: str | None = None) -> Rows:
    """As `read_rows`, of one file, one folder saved by `datasets`, or one hub name."""
    place = Path(path)
    if config_name is not None and place.exists():
        raise ValueError(
            f"tasks.config_name: got {config_name!r} for {path!r}, expected it with a hub name only; remove the key"
        )
    if place.is_dir():
        return saved_dataset_rows(path, split)
    suffix = suffix_of(path)
    if not place.is_file():
        expected = f"an existing file ({KNOWN_FILES}), a folder of such files or saved by datasets, or a hub name"
        if suffix is not None:
            raise ValueError(f"tasks.path: got {path!r}, which does not exist, expected {expected}")
        return hub_rows(path, split, config_name, expected)
    if suffix is None:
        raise ValueError(f"tasks.path: got {path!r}, expected a file ending in {KNOWN_FILES}")
    return READER_OF_SUFFIX[suffix](path)
