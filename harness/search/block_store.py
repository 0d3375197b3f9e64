"""Floor 4: what a search has found so far, on disk: a restarted search goes on behind it.

FOLDER/  key.json  and per finished block of queries  FIRST-LAST.npy  (index <i8, score <f4; [R, K])
Each file is whole or not there. Only rank 0 reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm
from harness.files import replace_file
from harness.search.request import SearchResult

_ENTRY = np.dtype([("index", "<i8"), ("score", "<f4")])


class BlockStore:
    """The finished blocks of one search. `key` names all that decides its result: model, data, k, settings.

    A folder with another key, or with none, is emptied of blocks. How queries are cut into blocks may differ between
    the starts of one search. Every rank makes one; on other ranks than 0 it does nothing.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        if comm.is_main():
            self._open(json.dumps(key, sort_keys=True, indent=1) + "\n")

    def blocks(self) -> Iterator[tuple[int, SearchResult]]:
        """(number of the first query, candidates) of the finished blocks, without a gap from query 0 on."""
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
        """Keep a finished block: it is on disk when this returns."""
        entry_RK = np.empty(candidates.index_QK.shape, _ENTRY)
        entry_RK["index"], entry_RK["score"] = candidates.index_QK, candidates.score_QK
        path = self.folder / f"{first:012d}-{first + len(candidates) - 1:012d}.npy"
        replace_file(path, lambda stream: np.save(stream, entry_RK, allow_pickle=False))

    def _open(self, key: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(".*"):  # of a write that was killed
            path.unlink()
        key_file = self.folder / "key.json"
        if key_file.exists() and key_file.read_text(encoding="utf-8") == key:
            return
        for path in self.folder.glob("*.npy"):  # before the key changes: killed between, they are none of the new key's
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
