"""Floor 4: embeddings of many texts as a memory-mapped file, made by blocks: a killed start goes on behind the last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy_format

from harness import comm
from harness.data.config import PromptsConfig
from harness.files import replace_file
from harness.types import EncodingRole, TextRole

BLOCK_TEXTS = 16_384  # encoded by all ranks together, then written
Read = Callable[[np.ndarray], Sequence[str]]
Progress = Callable[[str, int, int], None]  # (stage, done, of)


class Encode(Protocol):
    """What `engine.encode.TextEncoder` does with full texts."""

    def __call__(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray: ...

    def read_and_encode(self, read: Read, order_T: np.ndarray, role: EncodingRole) -> np.ndarray: ...


class Texts(Protocol):
    """A table of texts on disk."""

    def read_texts(self, text_ids: np.ndarray, /) -> list[tuple[str, str | None]]:
        """(text, the row's own prompt) of each id."""
        ...


@dataclass(frozen=True, slots=True)
class TableEmbeddings:
    """Embeds the texts of tables with their prompts before them, each table into a folder below `work`.

    prompts: a query row's own prompt takes the query's place. key: see `embeddings`.
    """

    encode: Encode
    prompts: PromptsConfig
    work: Path
    key: Mapping[str, Any]
    progress: Progress

    def __call__(self, stage: str, table: Texts, id_N: np.ndarray, role: TextRole) -> np.ndarray:
        """Unit rows float32 [N, D] of the table's texts `id_N`. `stage` names the folder and the progress."""

        def read(ids: np.ndarray) -> list[str]:
            return [self.prompts.before(role, own) + text for text, own in table.read_texts(ids)]

        def done(count: int) -> None:
            self.progress(f"encoding {stage}", count, len(id_N))

        return embeddings(self.encode, read, id_N, role, self.work / stage, self.key, done)


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

    Every rank calls it, reads and encodes its share; rank 0 writes. `key` names all that decides the result: with
    another one it starts anew. progress: called with the number of texts done.

    Raises:
        ValueError: a text's embedding is zero or not finite, or a rank does not see the folder.
    """
    if not len(id_N):
        return encode([], role)
    done = comm.broadcast_object(_begin(folder, key, len(id_N)) if comm.is_main() else 0)
    for first in range(done, len(id_N), BLOCK_TEXTS):
        if progress is not None:
            progress(first)
        stop = min(first + BLOCK_TEXTS, len(id_N))
        id_B = id_N[first:stop]
        row_BD = _encode_block(encode, read, id_B, role)
        norm_B1 = np.linalg.norm(row_BD, axis=1, keepdims=True)
        if not (np.isfinite(norm_B1) & (norm_B1 > 0)).all():
            bad = int(np.argmin(np.isfinite(norm_B1[:, 0]) & (norm_B1[:, 0] > 0)))
            text = read(id_B[bad : bad + 1])[0]
            raise ValueError(f"embedding of {text[:60]!a}: got length {norm_B1[bad, 0]}, expected a finite one above 0")
        if comm.is_main():
            _write(folder, first, row_BD / norm_B1, len(id_N), key)
    if progress is not None:
        progress(len(id_N))
    comm.barrier()
    if not (folder / "rows.npy").is_file():
        raise ValueError(
            f"--out, or output of a recipe: rank {comm.rank()} does not see {folder}, expected a folder that all hosts "
            "share"
        )
    return np.load(folder / "rows.npy", mmap_mode="c")  # torch asks for memory it might write to


def _encode_block(encode: Encode, read: Read, id_B: np.ndarray, role: EncodingRole) -> np.ndarray:
    # Shuffled, the same on every rank: dealt as they come, with one long and one short text per row, every other rank
    # would get the long ones.
    order_B = np.random.default_rng(0).permutation(len(id_B))
    return encode.read_and_encode(lambda share_E: read(id_B[share_E]), order_B, role)


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
