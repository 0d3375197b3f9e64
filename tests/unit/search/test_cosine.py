"""The nearest rows by cosine are those by sorting all cosines, whatever the blocks; each rank holds its share only."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from harness.search import cosine
from harness.search import exact as exact_search
from harness.search.cosine import Share, nearest_by_cosine, search_bytes, share_of_rank
from harness.search.request import SearchResult
from harness.search.unit_rows import unit_rows
from tests.ranks import run_ranks


def random_rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(query_QD: np.ndarray, row_ND: np.ndarray, k: int, dim: int | None = None) -> SearchResult:
    """The nearest rows of which this rank holds its share."""
    rows = share_of_rank(len(row_ND))
    share = Share(row_ND[rows.start : rows.stop].copy(), rows.start, len(row_ND))
    return nearest_by_cosine(query_QD, share, k, dim)


@pytest.mark.parametrize(("products", "rows"), [(16, 1), (64, 7), (4096, 40), (2**24, 83)])
def test_search_in_blocks_equals_sorting_the_whole_similarity_matrix(
    monkeypatch: pytest.MonkeyPatch, products: int, rows: int
) -> None:
    monkeypatch.setitem(exact_search.BLOCK_BYTES, "cpu", 4 * products)
    monkeypatch.setattr(cosine, "BLOCK_BYTES", 4 * 5 * rows)
    monkeypatch.setattr(cosine, "QUERIES", 4)
    query, document = 3 * random_rows(11, 8), 0.2 * random_rows(83, 8, seed=1)
    found = nearest(query, document, 7, dim=5)
    similarity = unit_rows(query[:, :5]) @ unit_rows(document[:, :5]).T
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(found.index_QK, expected)
    np.testing.assert_allclose(found.score_QK, np.take_along_axis(similarity, expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("rows", [3, 2**20])
def test_equal_scores_are_taken_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(cosine, "BLOCK_BYTES", 4 * 2 * rows)
    document = np.tile([[0.0, 1.0]], (20, 1))
    document[13] = [1.0, 0.0]
    assert nearest(np.array([[1.0, 0.0]]), document, 4).index_QK.tolist() == [[13, 0, 1, 2]]


def test_fewer_rows_than_asked_for_give_all_rows() -> None:
    found = nearest(random_rows(2, 3), random_rows(4, 3), 100)
    assert found.index_QK.shape == found.score_QK.shape == (2, 4)


QUERIES, ROWS, WIDTH, K = 64, 40_000, 96, 10
BLOCK = 3000 * WIDTH * 4  # bytes


def searched() -> tuple[SearchResult, int]:
    """Runs on a rank: the result, and the bytes that numpy and Python took besides the share and the queries."""
    cosine.BLOCK_BYTES = BLOCK
    query, rows = random_rows(QUERIES, WIDTH), share_of_rank(ROWS)
    own_ND = random_rows(ROWS, WIDTH, seed=1)[rows.start : rows.stop].copy()
    tracemalloc.start()
    found = nearest_by_cosine(query, Share(own_ND, rows.start, ROWS), K)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, peak + own_ND.nbytes + query.nbytes


@pytest.mark.distributed
def test_a_rank_holds_its_share_and_one_block_and_ranks_do_not_change_the_result() -> None:
    """numpy's arrays are counted, of which torch's are views. One more copy of the share or block is too much."""
    (alone, bytes_alone), *_ = run_ranks(1, searched, timeout=90)
    (found, bytes_0), (nothing, bytes_1) = run_ranks(2, searched, timeout=90)
    np.testing.assert_array_equal(found.index_QK, alone.index_QK)
    np.testing.assert_array_equal(found.score_QK, alone.score_QK)
    assert len(nothing) == 0
    for measured, ranks in ((bytes_alone, 1), (bytes_0, 2), (bytes_1, 2)):
        share, in_float64 = -(-ROWS // ranks) * WIDTH * 4, 3000 * WIDTH * 16
        assert share + BLOCK + in_float64 < measured < share + BLOCK + in_float64 + 2**19
        assert measured < search_bytes(ROWS, QUERIES, WIDTH, ranks, K)


def test_the_largest_corpus_fits_into_ranks_of_16_gb() -> None:
    """MS MARCO's 8.8 million passages and 6,980 queries in 1,024 dimensions, over 8 ranks: arithmetic, not measured."""
    needed = search_bytes(8_841_823, 6_980, 1024, 8, 101)
    share, block, in_float64 = 1_105_228 * 4096, 512 * 2**20, 16_384 * 1024 * 16
    assert needed == share + block + in_float64 + 2 * 6_980 * 4096 + 6_980 * 101 * 12 + 1024 * 101 * 12 * 11
    assert needed < 6 * 2**30
