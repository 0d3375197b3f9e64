"""Writes rows that a program holds in memory to a file of the cache, named by its content.

So they are read, checked and cached as any other file, and the same rows are the same file in every run.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from harness.settings.in_short import in_short

FOLDER = "rows"  # of the cache
_BATCH_ROWS = 8192


def is_dataset(value: Any) -> bool:
    """Whether this is a `Dataset` or `IterableDataset` of the library `datasets`, which is not imported for that."""
    return hasattr(value, "with_format") and hasattr(value, "iter")


def is_rows(value: Any) -> bool:
    """Whether this is rows in memory: a data set of `datasets`, or a list of mappings of columns to values."""
    return is_dataset(value) or (isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping))


def write_rows(rows: Any, name: str, cache: Path, place: str) -> Path:
    """Write rows to CACHE/rows/HASH/NAME.parquet (a data set of `datasets`) or NAME.jsonl (a list); returns the file.

    A text is written as it is, to NAME.tsv. The hash is XXH3-128 of the file; a file that is there stays.
    place: the key of the recipe, for messages.

    Raises:
        ValueError: there are no rows, or one holds what no file of rows can hold; or the folder cannot be written.
    """
    writers: tuple[tuple[str, Callable[[Any, IO[bytes], str], int]], ...]
    writers = (".tsv", _write_text), (".parquet", _write_arrow), (".jsonl", _write_lines)
    suffix, write = writers[0 if isinstance(rows, str) else 1 if is_dataset(rows) else 2]
    with _new_file(cache / FOLDER) as file:
        count = write(rows, file, place)
        if count == 0:
            raise ValueError(f"{place}: got no rows, expected at least one")
        target = cache / FOLDER / _digest(file) / f"{name}{suffix}"
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file.name, target)
    return target


@contextmanager
def _new_file(folder: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is gone at the end unless it was moved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=folder, suffix=".unfinished", delete=False)  # noqa: SIM115
        os.chmod(file.name, 0o644)
    except OSError as error:
        raise ValueError(
            f"data.cache: got {str(folder.parent)!r} ({error.strerror}), expected a folder that can be written; set "
            "data.cache, or XDG_CACHE_HOME"
        ) from error
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def _digest(file: IO[bytes]) -> str:
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    digest = xxhash.xxh3_128()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _write_text(text: str, file: IO[bytes], place: str) -> int:
    file.write(text.encode("utf-8"))
    return text.count("\n") - 1


def _write_lines(rows: Iterable[Any], file: IO[bytes], place: str) -> int:
    number = 0
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            raise ValueError(
                f"{place}: row {number}: got {type(row).__name__} {in_short(row, quoted=True)}, expected a mapping of "
                "names of columns to values, as the rows before it"
            )
        try:
            line = json.dumps(dict(row), ensure_ascii=False, allow_nan=False, default=_plain)
            file.write(line.encode("utf-8") + b"\n")
        except (TypeError, ValueError, RecursionError) as error:
            problem = " ".join(str(error).split())[:80]
            raise ValueError(
                f"{place}: row {number}: got a value that no file of rows can hold ({problem}), expected texts, "
                "numbers, and lists of these"
            ) from None
    return number


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as Python's."""
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {in_short(value, quoted=True)}")


def _write_arrow(dataset: Any, file: IO[bytes], place: str) -> int:
    """In Arrow's own form, so that images in columns that nobody reads are not decoded."""
    writer, count = None, 0
    try:
        for table in dataset.with_format("arrow").iter(_BATCH_ROWS):
            # Without what `datasets` notes beside the columns: a fingerprint that differs for equal rows.
            plain = table.replace_schema_metadata(None)
            writer = writer or pq.ParquetWriter(file, plain.schema)
            writer.write_table(plain.cast(writer.schema))
            count += plain.num_rows
    except (pa.ArrowException, TypeError) as error:
        problem = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{place}: got rows that cannot be written ({problem}), expected columns of texts, numbers and lists"
        ) from error
    finally:
        if writer is not None:
            writer.close()
    return count
