"""Keeps on disk what a search has found so far, so that a start that was killed can be continued.

FOLDER/  key.json  and per finished block of queries  FIRST-LAST.npy  (index <i8, score <f4; [R, K])
A file is complete or not there. Only rank 0 reads and writes.
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
    """The finished blocks of one search. Every rank creates one.

    key: everything that decides the result: model, data, k, settings. Blocks found under another key are removed. The
    size of the blocks may differ between two starts of one search.

    Raises:
        ValueError: rank 0 cannot write there.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        rank0.by_main(lambda: self._open(json.dumps(key, sort_keys=True, indent=1) + "\n"))

    def blocks(self) -> Iterator[tuple[int, SearchResult]]:
        """(number of the first query, candidates) of the finished blocks that follow each other from query 0 on."""
        for first, _, path in self._finished():
            entry_RK = np.load(path, allow_pickle=False)
            yield first, SearchResult(np.ascontiguousarray(entry_RK["index"]), np.ascontiguousarray(entry_RK["score"]))

    def num_done(self) -> int:
        """Number of queries in these blocks."""
        return max((stop for _, stop, _ in self._finished()), default=0)

    def num_candidates(self) -> int | None:
        """Candidates per query in these blocks; None if there is no block."""
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
        # Blocks are removed before the new key is written: after a kill in between, none lies under a wrong key.
        for path in self.folder.glob("*.npy"):
            path.unlink()
        replace_file(key_file, key)

    def _finished(self) -> Iterator[tuple[int, int, Path]]:
        """(first, stop, file) of the blocks that follow each other from query 0 on."""
        done = 0
        for path in sorted(self.folder.glob("*-*.npy")):
            first, last = (int(part) for part in path.stem.split("-"))
            if first == done:
                done = last + 1
                yield first, done, path
