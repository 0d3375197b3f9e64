"""Finds what would be missing, or be there twice, if the files of a folder or pattern were read as they are.

A download that broke off, a link to nothing and a file of an unknown type leave a data set that looks whole.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from harness.data.source.containers.arrow_files import class_labels
from harness.data.source.containers.table import FILE_SUFFIXES, is_saved_dataset, suffix_of
from harness.settings.in_short import in_short

_SHARD = re.compile(r"(?P<before>.*?)(?P<number>\d+)-of-(?P<total>\d+)(?P<after>.*)")
# Rows in forms that are not read, and ends of names of files that are packed otherwise or not whole yet. Other files
# beside data (a card, a licence, checksums, an index) hold no rows.
_OTHER_DATA = (
    *(".arrow", ".feather", ".avro", ".orc", ".jl", ".jsonlines", ".xlsx", ".xls", ".pkl", ".pickle"),
    *(".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".lz4", ".lzma", ".zstd"),
    *(".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp"),
)


def refuse_what_is_passed_over(where: str, entries: Iterable[Path], files: Iterable[Path]) -> None:
    """Check that a folder or pattern leaves out nothing that holds rows.

    where: `folder '...'` or `the pattern '...'`. entries: all that lies there or fits. files: those that are read.

    Raises:
        ValueError: a link leads nowhere, a file has rows in a form that is not read, or a folder holds such files.
    """
    read = set(files)
    folders = {parent for file in read for parent in file.parents}
    for entry in sorted(set(entries) - read - folders):
        got = _what_is_passed_over(entry)
        if got:
            raise ValueError(
                f"tasks.path: got {where} with {got}, expected nothing beside the files that are read; take it away, "
                "mend it, or name the files that are meant"
            )


def _what_is_passed_over(entry: Path) -> str:
    if entry.name.startswith("."):
        return ""
    if entry.is_symlink() and not entry.exists():
        return f"{entry.name!r}, a link to a file that is not there"
    if entry.is_dir():
        has_rows = is_saved_dataset(entry) or any(suffix_of(file.name) for file in entry.iterdir() if file.is_file())
        return f"the folder {entry.name!r}, which is not read" if has_rows else ""
    lower = entry.name.lower()
    is_data = lower.endswith(_OTHER_DATA) or (lower.endswith(FILE_SUFFIXES) and not suffix_of(entry.name))
    return f"{entry.name!r}, a file that is not read" if is_data else ""


def refuse_repeated(files: Sequence[str]) -> None:
    """Check that no file is named twice, nor under two names that are links to one file.

    Raises:
        ValueError: one is.
    """
    first: dict[object, str] = {}
    for file in files:
        state = os.stat(file) if os.path.isfile(file) else None
        key = file if state is None else (state.st_dev, state.st_ino)
        other = first.setdefault(key, file)
        if other is not file:
            got = f"{file!r} twice" if other == file else f"{other!r} and {file!r}, which are one file"
            raise ValueError(f"tasks.path: got {got}, expected each file once; remove one of them")


def missing_shards(files: Iterable[str]) -> list[str]:
    """A line for each set of shards (`train-00000-of-00002.parquet`) of which some are not among the files."""
    numbers: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for file in files:
        name = PurePath(file).name
        if match := _SHARD.fullmatch(name.removesuffix(suffix_of(name) or "")):
            numbers[match["before"], match["total"], os.path.dirname(file)].add(int(match["number"]))
    lines = []
    for (before, total, _), found in numbers.items():
        if len(found) < int(total):
            start = 0 if 0 in found or int(total) not in found else 1
            missing = next(number for number in range(start, start + int(total)) if number not in found)
            name = f"{before}{missing:0{len(total)}d}-of-{total}"
            lines.append(f"{len(found):,} of {int(total):,} shards are there: {name!r} is missing")
    return lines


def refuse_other_class_labels(files: Iterable[str]) -> None:
    """Check that the parquet files of a source mean the same by the numbers of their class labels (`datasets`).

    Raises:
        ValueError: two files name the numbers of a column otherwise: equal numbers would be other labels.
    """
    first: dict[str, tuple[str, list[str]]] = {}
    for file in files:
        if suffix_of(file) != ".parquet" or not os.path.isfile(file):
            continue
        try:
            found = class_labels(pq.read_schema(file))
        except (pa.ArrowException, OSError):  # reading its rows will say why
            continue
        for column, names in found.items():
            other, before = first.setdefault(column, (file, names))
            if names != before:
                raise ValueError(
                    f"{file}: {column}: got class labels {in_short(names)}, expected those of {other}, "
                    f"{in_short(before)}: equal numbers would stand for other labels; write the names into both files"
                )
