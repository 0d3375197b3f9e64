"""Embeds many texts into a memory-mapped file, block by block. A run that was killed continues after its last block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness import rank0
from harness.data.table.npy import create_array
from harness.files import replace_file
from harness.prompts import Prompts
from harness.search.encode import Encode, ReadTexts
from harness.search.unit_rows import unit_rows
from harness.settings import checked_json as json
from harness.types import EncodingRole, PromptedText, TextRole

BLOCK_TEXTS = 16_384  # number of texts that all ranks together encode before they are written
Progress = Callable[[str, int, int], None]  # called with (stage, number done, total number)


class TextTable(Protocol):
    """A table of texts on disk."""

    def read_texts(self, text_ids: np.ndarray, /) -> list[tuple[str, str | None]]:
        """(text, the row's own prompt) of each id."""
        ...


@dataclass(frozen=True, slots=True)
class TableEmbeddings:
    """Embeds texts of tables, each with its prompt in front. Every stage writes to its own folder below `work`.

    prompts: by role; a row's own prompt replaces the one of its query. key: see `embeddings`.
    """

    encode: Encode
    prompts: Prompts
    work: Path
    key: Mapping[str, Any]
    progress: Progress

    def __call__(self, stage: str, table: TextTable, id_N: np.ndarray, role: TextRole) -> np.ndarray:
        """Unit rows float32 [N, D] of the table's texts `id_N`. stage: name of the folder and of the progress bar."""

        def read(ids: np.ndarray) -> list[PromptedText]:
            return [
                PromptedText(self.prompts.before(role, own_prompt), text) for text, own_prompt in table.read_texts(ids)
            ]

        def done(count: int) -> None:
            self.progress(f"encoding {stage}", count, len(id_N))

        return embeddings(self.encode, read, id_N, role, self.work / stage, self.key, done)


def embeddings(
    encode: Encode,
    read: ReadTexts,
    id_N: np.ndarray,
    role: EncodingRole,
    folder: Path,
    key: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Unit rows float32 [N, D] of the texts `id_N`, memory-mapped from FOLDER/rows.npy, equal on every rank.

    Every rank must call this; each reads and encodes its share, and rank 0 writes. key: everything that the result
    depends on; results in the folder with another key are removed. progress: called with the number of texts done.

    Raises:
        ValueError: a text's embedding is zero or not finite, rank 0 cannot write, or a rank does not see the folder.
    """
    if not len(id_N):
        return encode([], role)
    num_done = rank0.by_main(lambda: _num_done(folder, key, len(id_N)))
    for first in range(num_done, len(id_N), BLOCK_TEXTS):
        if progress is not None:
            progress(first)
        id_B = id_N[first : first + BLOCK_TEXTS]
        row_BD = _encode_block(encode, read, id_B, role)
        _check_lengths(row_BD, id_B, read)
        rank0.by_main(partial(_write, folder, first, row_BD, len(id_N), key))
    if progress is not None:
        progress(len(id_N))
    rank0.wait_until_visible(folder / "rows.npy")
    return np.load(folder / "rows.npy", mmap_mode="c")  # copy on write, because torch requires a writable array


def _encode_block(encode: Encode, read: ReadTexts, id_B: np.ndarray, role: EncodingRole) -> np.ndarray:
    # Each rank encodes every W-th text (W ranks). The texts are shuffled first, in the same way on every rank: if long
    # and short texts alternate in the data, one of two ranks would otherwise get all long texts.
    order_B = np.random.default_rng(0).permutation(len(id_B))
    return encode.read_and_encode(lambda share_E: read(id_B[share_E]), order_B, role)


def _check_lengths(row_BD: np.ndarray, id_B: np.ndarray, read: ReadTexts) -> None:
    """Refuse embeddings whose length is zero or not finite."""
    length_B = np.linalg.norm(row_BD, axis=1)
    is_good_B = np.isfinite(length_B) & (length_B > 0)
    if not is_good_B.all():
        bad = int(np.argmin(is_good_B))
        text = read(id_B[bad : bad + 1])[0]
        raise ValueError(f"embedding of {text[:60]!r}: got length {length_B[bad]}, expected a finite one above 0")


def _num_done(folder: Path, key: Mapping[str, Any], num_texts: int) -> int:
    """The number of texts embedded by an earlier start with the same key; removes the results of any other key."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "done.json"
    facts = json.loads(state.read_text()) if state.is_file() else {}
    if facts.get("key") == {**key, "texts": num_texts} and (folder / "rows.npy").is_file():
        return int(facts["done"])
    state.unlink(missing_ok=True)
    (folder / "rows.npy").unlink(missing_ok=True)
    return 0


def _write(folder: Path, first: int, row_BD: np.ndarray, num_texts: int, key: Mapping[str, Any]) -> None:
    """Write a block's unit rows, then the number done. After a kill in between, the block is computed again."""
    path, shape = folder / "rows.npy", (num_texts, row_BD.shape[1])
    if first == 0:
        create_array(path, np.float32, shape).flush()
    rows = np.load(path, mmap_mode="r+")
    rows[first : first + len(row_BD)] = unit_rows(row_BD)
    rows.flush()
    replace_file(folder / "done.json", json.dumps({"key": {**key, "texts": num_texts}, "done": first + len(row_BD)}))
