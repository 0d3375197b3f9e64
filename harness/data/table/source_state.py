"""Tells whether the files of a source have changed, without reading them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.source.shards import source_files


@dataclass(frozen=True)
class SourceState:
    """Path, size and modification time of a source: they show that it has changed, without reading it."""

    path: str
    is_file: bool
    size: int
    mtime_ns: int

    @staticmethod
    def of(path: str) -> SourceState:
        place = Path(path)
        if not place.exists():  # a hub name, or a wrong path that reading the source will report
            return SourceState(path, False, 0, 0)
        # Ignore the cache-* files that `datasets` itself writes into a saved folder.
        files = [place] if place.is_file() else [f for f in place.rglob("*") if not f.name.startswith("cache-")]
        stats = [file.stat() for file in files if file.is_file()]
        newest = max((stat.st_mtime_ns for stat in stats), default=0)
        return SourceState(os.path.abspath(path), place.is_file(), sum(stat.st_size for stat in stats), newest)


def states_of(path: str | Sequence[str], split: str, corpus: str | None) -> list[SourceState]:
    """The state of every file of a source, and of the corpus whose documents it names."""
    sources = [*source_files(path, split), *(() if corpus is None else source_files(corpus, split))]
    return [SourceState.of(file) for file in sources]
