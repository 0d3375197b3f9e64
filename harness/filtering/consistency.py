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
from harness.data.ragged import matches
from harness.data.table.identity import TextKeys, identities
from harness.filtering.pairs import PairTable
from harness.search.block_store import BlockStore
from harness.search.exact import ExactSearch
from harness.search.request import Pairs, SearchRequest
from harness.search.top_k import candidate_blocks, shard_of

_SAMPLE_KEY = 0x5A3B1E


def sample(hash_C: np.ndarray, count: int) -> np.ndarray:
    """Positions, ascending, of a pseudo-random choice of `count` hashes. The choice depends on the hashes only."""
    if len(hash_C) <= count:
        return np.arange(len(hash_C))
    return np.sort(np.argpartition(mix64(hash_C, _SAMPLE_KEY), count)[:count])


def excluded_rivals(table: PairTable, query: TextKeys, document: TextKeys) -> Pairs:
    """(query, document) pairs in which the document is not a rival; positions in `query` and `document`.

    Such a document is a positive of the query in any row, or is one text with the query.
    """
    pair_E = np.flatnonzero(table.positive_P >= 0)
    parts = [query, table.keys(table.query_P[pair_E]), table.keys(table.positive_P[pair_E]), document]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    query_Q, query_E, positive_E, document_C = np.split(identities(TextKeys.concatenate(parts)), ends)
    owner_E, place_E = matches(query_Q, query_E)
    owner = np.concatenate([owner_E, np.arange(len(query))])
    entry, rival = matches(np.concatenate([positive_E[place_E], query_Q]), document_C)
    return owner[entry], rival


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
