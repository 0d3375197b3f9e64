"""Cosines of pairs and of rival documents equal plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.filtering.consistency import excluded_rivals, is_consistent, kth_rival_scores, sample
from harness.filtering.pairs import PairTable
from harness.filtering.scoring import UniqueSides, cosines
from harness.search.block_store import BlockStore


def table(query_hash: list[int], positive_hash: list[int]) -> PairTable:
    """A table of pairs: text 2i is the query of pair i, text 2i + 1 its positive. The table holds hashes only."""
    hash_G = np.array([h for pair in zip(query_hash, positive_hash, strict=True) for h in pair], dtype=np.uint64)
    number = np.arange(len(query_hash))
    none: Any = None
    return PairTable(none, none, none, none, 2 * number, 2 * number + 1, hash_G, hash_G, none)


def unit(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_each_unique_text_is_encoded_once_and_pairs_refer_to_it() -> None:
    pairs = table([5, 3, 5, 4], [9, 9, 8, 7])
    sides = UniqueSides.of(pairs, np.array([0, 1, 2]))
    assert pairs.token_hash_G[sides.query_id_Q].tolist() == [5, 3]
    assert pairs.token_hash_G[sides.document_id_C].tolist() == [9, 8]
    assert (sides.query_E.tolist(), sides.document_E.tolist()) == ([0, 1, 0], [0, 0, 1])


@pytest.mark.parametrize("k", [1, 3, 40])
def test_consistency_counts_the_sampled_documents_above_the_positive(tmp_path: Path, k: int) -> None:
    """Compared with a loop over all documents. Known positives, equal texts and equal scores are not rivals."""
    rng = np.random.default_rng(0)
    query_hash, positive_hash = rng.integers(0, 20, 150).tolist(), rng.integers(12, 60, 150).tolist()
    pairs = table(query_hash, positive_hash)
    sides = UniqueSides.of(pairs, np.arange(150))
    query_hash_Q, document_hash_C = pairs.token_hash_G[sides.query_id_Q], pairs.token_hash_G[sides.document_id_C]
    query_QD, document_CD = unit(1, len(sides.query_id_Q)), unit(2, len(sides.document_id_C))
    document_CD[1::2] = document_CD[: len(document_CD) // 2 * 2 : 2]
    _, own_Q, own_C = np.intersect1d(query_hash_Q, document_hash_C, return_indices=True)
    document_CD[own_C] = query_QD[own_Q]
    score_E = cosines(query_QD, document_CD, sides)
    chosen = sample(document_hash_C, 40)
    excluded = excluded_rivals(pairs, pairs.keys(sides.query_id_Q), pairs.keys(sides.document_id_C[chosen]))
    store = BlockStore(tmp_path, {})
    kth_Q = kth_rival_scores(query_QD, document_CD[chosen], excluded, k, store, lambda done: None)
    expected = []
    for query, positive in zip(query_hash, positive_hash, strict=True):
        own = query_QD[query_hash_Q.tolist().index(query)].astype(np.float64)
        known = {p for q, p in zip(query_hash, positive_hash, strict=True) if q == query} | {query}
        rivals = [c for c in chosen if int(document_hash_C[c]) not in known]
        target = document_CD[document_hash_C.tolist().index(positive)] @ own
        expected.append(sum(document_CD[c] @ own > target for c in rivals) < k)
    assert is_consistent(score_E, kth_Q, sides.query_E).tolist() == expected
    assert all(expected) == (k == 40)


def test_a_sample_depends_on_the_texts_only() -> None:
    hash_C = np.random.default_rng(0).integers(0, 2**63, 500).astype(np.uint64)
    chosen = set(hash_C[sample(hash_C, 50)].tolist())
    assert len(chosen) == 50
    assert set(hash_C[::-1][sample(hash_C[::-1], 50)].tolist()) == chosen
    assert sample(hash_C, 500).tolist() == sample(hash_C, 900).tolist() == list(range(500))
