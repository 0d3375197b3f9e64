"""Stage 5: a pair is consistent if its positive is among the k documents nearest to its query.

The documents are a sample of the pairs' own positives, or of a corpus. The documents that compete with the positive are
called its rivals. Known positives of the query and documents equal to the query are not rivals. This is the consistency
filter of E5 (arXiv 2212.03533, section 3.1) and of Arctic-embed (arXiv 2405.05374).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from harness import comm
from harness.data.pseudo_random import mix64
from harness.data.ragged import expand_ranges
from harness.filtering.pairs import PairTable
from harness.search.block_store import BlockStore
from harness.search.exact import ExactSearch
from harness.search.request import Pairs, SearchRequest
from harness.search.top_k import candidate_blocks, shard_of
from harness.search.unique_texts import positions_in

_SAMPLE_KEY = 0x5A3B1E


def sample(hash_C: np.ndarray, count: int) -> np.ndarray:
    """Positions, ascending, of a pseudo-random choice of `count` hashes. The choice depends on the hashes only."""
    if len(hash_C) <= count:
        return np.arange(len(hash_C))
    return np.sort(np.argpartition(mix64(hash_C, _SAMPLE_KEY), count)[:count])


def excluded_rivals(table: PairTable, query_hash_Q: np.ndarray, document_hash_C: np.ndarray) -> Pairs:
    """(query, document) pairs in which the document is not a rival.

    Such a document is a positive of the query in any row, or is equal to the query. query_hash_Q: distinct hashes.
    """
    has_texts_E = np.flatnonzero(table.positive_P >= 0)
    query_hash_E = table.text_hash_G[table.query_P[has_texts_E]]
    positive_hash_E = table.text_hash_G[table.positive_P[has_texts_E]]
    query_E = positions_in(query_hash_Q, query_hash_E)
    is_in_queries_E = query_E >= 0
    query_E = np.concatenate([query_E[is_in_queries_E], np.arange(len(query_hash_Q))])
    hash_E = np.concatenate([positive_hash_E[is_in_queries_E], query_hash_Q])
    order_C = np.argsort(document_hash_C, kind="stable")
    sorted_C = document_hash_C[order_C]
    owner, place = expand_ranges(np.searchsorted(sorted_C, hash_E), np.searchsorted(sorted_C, hash_E, side="right"))
    return query_E[owner], order_C[place]


def kth_rival_scores(
    query_QD: np.ndarray, document_CD: np.ndarray, excluded: Pairs, k: int, store: BlockStore, progress: Callable
) -> np.ndarray:
    """Score of each query's k-th nearest rival, float32 [Q]; -inf for a query with fewer than k rivals.

    Every rank must call this; each searches its share of the documents. Only rank 0 gets the scores; the other ranks
    get -inf for every query.
    """
    shard = shard_of(document_CD, comm.device())
    kth_Q = np.full(len(query_QD), -np.inf, dtype=np.float32)
    search = ExactSearch(SearchRequest(torch.from_numpy(query_QD), shard, k, excluded))
    for start, rivals in candidate_blocks(search, store=store, progress=progress):
        kth_Q[start : start + len(rivals)] = rivals.score_QK[:, k - 1]
    return kth_Q


def is_consistent(score_E: np.ndarray, kth_Q: np.ndarray, query_E: np.ndarray) -> np.ndarray:
    """Whether fewer than k rivals have a higher score than the pair's positive, bool [E]. kth_Q: `kth_rival_scores`."""
    return score_E >= kth_Q[query_E]
