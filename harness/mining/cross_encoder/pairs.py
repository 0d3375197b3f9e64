"""Scores the candidates of all queries, and their known positives, over all ranks. A killed start is continued."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm, rank0
from harness.data.table.index import TaskData
from harness.mining.cross_encoder.scorer import CrossEncoderScorer
from harness.search.block_store import BlockStore
from harness.search.request import SearchResult

Lists = tuple[np.ndarray, np.ndarray]  # the query of each list [R], its documents [R, width], -1 padded
ListsAt = Callable[[int, int], Lists]  # (first, stop) → these lists
BLOCK_PAIRS = 16_384  # number of pairs that all ranks together score before the scores are written


@dataclass(frozen=True, slots=True)
class ScoredTexts:
    """The queries and the documents of a search, as a cross-encoder reads them: without prompts."""

    data: TaskData
    documents: TaskData
    query_id_Q: np.ndarray
    document_id_C: np.ndarray

    def read(self, query_E: np.ndarray, document_E: np.ndarray, *, positives: bool) -> list[tuple[str, str]]:
        """(query, document) of every pair. positives: `document_E` are text ids of the training data."""
        table, ids = (self.data, document_E) if positives else (self.documents, self.document_id_C[document_E])
        queries, documents = self.data.read_texts(self.query_id_Q[query_E]), table.read_texts(ids)
        return [(query, document) for (query, _), (document, _) in zip(queries, documents, strict=True)]


def score_lists(
    scorer: CrossEncoderScorer,
    texts: ScoredTexts,
    folder: Path,
    key: Mapping[str, Any],
    rows: int,
    width: int,
    lists: ListsAt,
    progress: Callable[[int], None],
    *,
    positives: bool = False,
) -> BlockStore:
    """Score `rows` lists of `width` documents; rank 0 stores each finished block. Every rank must call it.

    lists: called on rank 0 only. The store has the documents and the scores, NaN where padded.
    """
    store = BlockStore(folder, {**key, "cross_encoder": scorer.identity, "width": width})
    at_once = max(1, BLOCK_PAIRS // max(1, width))
    for first in range(rank0.by_main(store.num_done), rows, at_once):
        progress(first)
        stop = min(first + at_once, rows)
        query_R, document_RK = rank0.by_main(partial(lists, first, stop))
        owner_E, column_E = np.nonzero(document_RK >= 0)
        query_E, document_E = query_R[owner_E], document_RK[owner_E, column_E]
        score_RK = np.full(document_RK.shape, np.nan, dtype=np.float32)
        read = partial(texts.read, positives=positives)
        score_RK[owner_E, column_E] = _over_ranks(scorer, read, query_E, document_E)
        rank0.by_main(partial(store.write, first, SearchResult(document_RK, score_RK)))
    progress(rows)
    return store


def _over_ranks(
    scorer: CrossEncoderScorer,
    read: Callable[[np.ndarray, np.ndarray], list[tuple[str, str]]],
    query_E: np.ndarray,
    document_E: np.ndarray,
) -> np.ndarray:
    """The score of every pair, float32 [E], equal on every rank: each rank reads and scores its share."""
    # Shuffled, in the same way on every rank, so that long and short texts are shared alike.
    order_E = np.random.default_rng(0).permutation(len(query_E))
    shares = [order_E[rank :: comm.world_size()] for rank in range(comm.world_size())]
    own_E = shares[comm.rank()]
    found = rank0.by_each(lambda: scorer(read(query_E[own_E], document_E[own_E])))
    score_E = np.empty(len(query_E), dtype=np.float32)
    for share_E, values in zip(shares, found, strict=True):
        score_E[share_E] = values
    return score_E
