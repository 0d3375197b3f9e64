"""Stores the finished blocks of a search on disk, so that a search that was killed can be continued.

FOLDER/  key.json  and per finished block of queries  FIRST-LAST.npy  (index <i8, score <f4; [R, K])
A file either is complete or does not exist. Only rank 0 reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness import rank0
from harness.files import replace_file
from harness.search.request import SearchResult

_ENTRY = np.dtype([("index", "<i8"), ("score", "<f4")])


class BlockStore:
    """The finished blocks of one search. Every rank must create this object.

    key: everything that the result depends on: model, data, k, settings. Stored blocks of another key are removed. The
    size of the blocks may change when a search is continued.

    Raises:
        ValueError: rank 0 cannot write to the folder.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        rank0.by_main(lambda: self._open(json.dumps(key, sort_keys=True, indent=1) + "\n"))

    def blocks(self) -> Iterator[tuple[int, SearchResult]]:
        """Yields (number of the first query, candidates) of the consecutive finished blocks from query 0 on."""
        for first, _, path in self._finished():
            entry_RK = np.load(path, allow_pickle=False)
            yield first, SearchResult(np.ascontiguousarray(entry_RK["index"]), np.ascontiguousarray(entry_RK["score"]))

    def num_done(self) -> int:
        """Number of queries in the blocks that `blocks` yields."""
        return max((stop for _, stop, _ in self._finished()), default=0)

    def num_candidates(self) -> int | None:
        """Number of candidates per query in the blocks that `blocks` yields; None if there are no blocks."""
        return next((np.load(path, mmap_mode="r").shape[1] for _, _, path in self._finished()), None)

    def write(self, first: int, candidates: SearchResult) -> None:
        """Write a finished block; it is on disk when this returns."""
        entry_RK = np.empty(candidates.index_QK.shape, _ENTRY)
        entry_RK["index"], entry_RK["score"] = candidates.index_QK, candidates.score_QK
        path = self.folder / f"{first:012d}-{first + len(candidates) - 1:012d}.npy"
        replace_file(path, lambda stream: np.save(stream, entry_RK, allow_pickle=False))

    def _open(self, key: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(".*"):  # left by a write that was killed
            path.unlink()
        key_file = self.folder / "key.json"
        if key_file.exists() and key_file.read_text(encoding="utf-8") == key:
            return
        # The blocks are removed before the new key is written, so that a kill in between leaves no wrong block.
        for path in self.folder.glob("*.npy"):
            path.unlink()
        replace_file(key_file, key)

    def _finished(self) -> Iterator[tuple[int, int, Path]]:
        """Yields (first query, stop, file) of the consecutive finished blocks from query 0 on."""
        done = 0
        for path in sorted(self.folder.glob("*-*.npy")):
            first, last = (int(number) for number in path.stem.split("-"))
            if first == done:
                done = last + 1
                yield first, done, path
