"""Embeddings of many texts as one memory-mapped file, made block by block: a killed start continues behind the last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from harness import comm
from harness.files import replace_file
from harness.types import EncodingRole

BLOCK_TEXTS = 16_384  # encoded by all ranks together, then written
Encode = Callable[[Sequence[str], EncodingRole], np.ndarray]
Read = Callable[[np.ndarray], Sequence[str]]


def embeddings(
    encode: Encode,
    read: Read,
    id_N: np.ndarray,
    role: EncodingRole,
    folder: Path,
    key: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Unit rows float32 [N, D] of the texts `id_N`, memory-mapped from FOLDER/rows.npy, the same on every rank.

    Every rank calls it; rank 0 writes. `key` names all that decides the result: with another one it starts anew.
    progress: called with the number of texts done.

    Raises:
        ValueError: a text's embedding is zero or not finite, or a rank does not see the folder.
    """
    done = comm.broadcast_object(_begin(folder, key, len(id_N)) if comm.is_main() else 0)
    for first in range(done, len(id_N), BLOCK_TEXTS):
        if progress is not None:
            progress(first)
        stop = min(first + BLOCK_TEXTS, len(id_N))
        row_BD = encode(read(id_N[first:stop]), role)
        norm_B1 = np.linalg.norm(row_BD, axis=1, keepdims=True)
        if not (np.isfinite(norm_B1) & (norm_B1 > 0)).all():
            bad = int(np.argmin(np.isfinite(norm_B1[:, 0]) & (norm_B1[:, 0] > 0)))
            text = read(id_N[first + bad : first + bad + 1])[0]
            raise ValueError(f"embedding of {text[:60]!a}: got length {norm_B1[bad, 0]}, expected a finite one above 0")
        if comm.is_main():
            _write(folder, first, row_BD / norm_B1, len(id_N), key)
    if progress is not None:
        progress(len(id_N))
    comm.barrier()
    if not (folder / "rows.npy").is_file():
        raise ValueError(f"--out: rank {comm.rank()} does not see {folder}, expected a folder that all hosts share")
    return np.load(folder / "rows.npy", mmap_mode="c")  # torch asks for memory it might write to


def _begin(folder: Path, key: Mapping[str, Any], num_texts: int) -> int:
    """How many texts are done already."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "done.json"
    described = json.loads(state.read_text()) if state.is_file() else {}
    if described.get("key") == {**key, "texts": num_texts} and (folder / "rows.npy").is_file():
        return int(described["done"])
    state.unlink(missing_ok=True)
    (folder / "rows.npy").unlink(missing_ok=True)
    return 0


def _write(folder: Path, first: int, row_BD: np.ndarray, num_texts: int, key: Mapping[str, Any]) -> None:
    path, shape = folder / "rows.npy", (num_texts, row_BD.shape[1])
    if first == 0:
        npy_format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()
    rows = np.load(path, mmap_mode="r+")
    rows[first : first + len(row_BD)] = row_BD
    rows.flush()
    replace_file(folder / "done.json", json.dumps({"key": {**key, "texts": num_texts}, "done": first + len(row_BD)}))
