"""Stage 5: a pair is consistent if its positive is among the k documents nearest to its query.

The documents are a sample of the pairs' own positives, or of a corpus. The other documents are the positive's rivals;
known positives of the query and documents equal to the query are none (consistency filter of E5, arXiv 2212.03533,
section 3.1, and of Arctic-embed, arXiv 2405.05374).
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
    """Positions of `count` of the hashes, ascending: a pseudo-random choice that depends on the hashes only."""
    if len(hash_C) <= count:
        return np.arange(len(hash_C))
    return np.sort(np.argpartition(mix64(hash_C, _SAMPLE_KEY), count)[:count])


def excluded_rivals(table: PairTable, query_hash_Q: np.ndarray, document_hash_C: np.ndarray) -> Pairs:
    """(query, document) pairs in which the document is no rival: a known positive of any row, or the query's own text.

    query_hash_Q: each once.
    """
    has_texts_E = np.flatnonzero(table.positive_P >= 0)
    known_query_E = table.text_hash_G[table.query_P[has_texts_E]]
    known_positive_E = table.text_hash_G[table.positive_P[has_texts_E]]
    query_E = positions_in(query_hash_Q, known_query_E)
    is_asked_E = query_E >= 0
    query_E = np.concatenate([query_E[is_asked_E], np.arange(len(query_hash_Q))])
    hash_E = np.concatenate([known_positive_E[is_asked_E], query_hash_Q])
    order_C = np.argsort(document_hash_C, kind="stable")
    sorted_C = document_hash_C[order_C]
    owner, place = expand_ranges(np.searchsorted(sorted_C, hash_E), np.searchsorted(sorted_C, hash_E, side="right"))
    return query_E[owner], order_C[place]


def kth_rival_scores(
    query_QD: np.ndarray, document_CD: np.ndarray, excluded: Pairs, k: int, store: BlockStore, progress: Callable
) -> np.ndarray:
    """Score of each query's k-th nearest rival, float32 [Q]; -inf for a query with fewer rivals.

    Every rank calls it and searches its share of the documents; only rank 0 gets the scores, the others all -inf.
    """
    shard = shard_of(document_CD, comm.device())
    kth_Q = np.full(len(query_QD), -np.inf, dtype=np.float32)
    search = ExactSearch(SearchRequest(torch.from_numpy(query_QD), shard, k, excluded))
    for start, found in candidate_blocks(search, store=store, progress=progress):
        kth_Q[start : start + len(found)] = found.score_QK[:, k - 1]
    return kth_Q


def is_consistent(score_E: np.ndarray, kth_Q: np.ndarray, query_E: np.ndarray) -> np.ndarray:
    """Whether fewer than k rivals score higher than the pair, bool [E]. An equal score is not higher."""
    return score_E >= kth_Q[query_E]
