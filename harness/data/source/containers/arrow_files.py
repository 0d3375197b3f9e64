"""Reads parquet files, folders saved by `datasets`, and data sets of the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from harness.data.source.containers.rows import BadRow, Row, Rows, broken_off, first_line
from harness.process.hub import problem_of_hub_name

if TYPE_CHECKING:
    from datasets import Dataset

ARROW_BATCH_ROWS = 1024
_INFERENCE = frozenset(("entailment", "not_entailment", "contradiction"))
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def parquet_rows(path: str) -> Rows:
    """The rows of a parquet file."""
    return _numbered(parquet_batches(path))


def parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    """The rows of a parquet file, in batches.

    Raises:
        ValueError: the file ends before it is complete, or cannot be read.
    """
    num_rows = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(ARROW_BATCH_ROWS):
                yield batch
                num_rows += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names of columns
        raise ValueError(broken_off(path, num_rows + 1, error)) from error


def saved_dataset_rows(path: str, split: str) -> Rows:
    """The rows of a folder that datasets' save_to_disk wrote.

    Raises:
        ValueError: it cannot be read, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"tasks.path: got folder {path!r} ({first_line(error)}), expected one written by datasets' save_to_disk"
        ) from error
    if not isinstance(loaded, DatasetDict):
        if split != "train" and loaded.split is not None and str(loaded.split) != split:
            raise ValueError(f"tasks.split: got {split!r}, expected {str(loaded.split)!r}, which is all of {path!r}")
        return _dataset_rows(loaded)
    if split not in loaded:
        raise ValueError(f"tasks.split: got {split!r}, expected a split of {path!r}: {', '.join(loaded)}")
    return _dataset_rows(loaded[split])


def hub_rows(name: str, split: str, config_name: str | None, expected: str) -> Rows:
    """The rows of a data set of the hub. expected: what a path may be, for the message.

    Raises:
        ValueError: this is no hub name, or the data set cannot be loaded.
    """
    if not _HUB_NAME.fullmatch(name):
        raise ValueError(f"tasks.path: got {name!r}, which does not exist, expected {expected}")
    from datasets import load_dataset

    why_not = problem_of_hub_name(name, "dataset")
    try:
        configuration = {} if config_name is None else {"name": config_name}
        with _from_the_cache_only(why_not is not None):
            return _dataset_rows(load_dataset(name, split=split, **configuration))
    except Exception as error:  # the hub client raises errors of many types: its own, HTTP and operating system errors
        raise ValueError(
            f"tasks.path: got {name!r}, which is no path here and cannot be loaded from the hub "
            f"({first_line(why_not or error)}), expected {expected}; check tasks.path, tasks.config_name "
            f"({config_name or 'none'}) and tasks.split ({split!r}); HF_ENDPOINT names a mirror, HF_HOME a cache"
        ) from error


@contextmanager
def _from_the_cache_only(is_wanted: bool) -> Iterator[None]:
    """Inside, datasets does not ask the hub: it would try again for 24 s, and then look into its cache."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or is_wanted
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _dataset_rows(dataset: Dataset) -> Rows:
    # Arrow format, so that images and audio in columns that the harness ignores are not decoded.
    return _numbered(dataset.with_format("arrow").iter(ARROW_BATCH_ROWS))


def _numbered(batches: Iterable[pa.Table | pa.RecordBatch]) -> Rows:
    line = 1
    for batch in batches:
        yield from arrow_rows(batch, line)
        line += batch.num_rows


def arrow_rows(table: pa.Table | pa.RecordBatch, first: int) -> Rows:
    """(number, row) of the rows of an Arrow table, of which the first has the number `first`.

    A row with strings that are not UTF-8 becomes a BadRow; the other rows are read.
    """
    try:
        rows: Iterable[Row | BadRow] = table.to_pylist()
    except UnicodeDecodeError:
        rows = (_arrow_row(table, i) for i in range(table.num_rows))
    if classes := class_labels(table.schema):
        rows = [row if isinstance(row, BadRow) else row | _labels(row, classes) for row in rows]
    return zip(range(first, first + table.num_rows), rows, strict=True)


def class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The columns that `datasets` calls class labels, and the names of their numbers; what it notes beside a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: entry["names"] for name, entry in features.items() if entry.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    return {name: names for name, names in found.items() if name in schema.names and isinstance(names, list)}


def _labels(row: Row, classes: Mapping[str, list[str]]) -> Row:
    """The row's class labels: -1, by which `datasets` means no label, is null; those of inference have their names.

    0 is entailment in some of these sets and contradiction in others, so that no number says what is meant.
    """
    labels: Row = {}
    for column, names in classes.items():
        number = row.get(column)
        if number == -1:
            labels[column] = None
        elif isinstance(number, int) and 0 <= number < len(names) and not _INFERENCE.isdisjoint(names):
            labels[column] = names[number]
    return labels


def _arrow_row(table: pa.Table | pa.RecordBatch, i: int) -> Row | BadRow:
    row = {}
    for name in table.schema.names:
        try:
            row[name] = table.column(name)[i].as_py()
        except UnicodeDecodeError as error:
            return BadRow(name, f"byte 0x{error.object[error.start]:02x} at byte {error.start + 1}", "UTF-8")
    return row
