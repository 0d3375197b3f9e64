"""Top-k search in one process equals brute force with correctly rounded scores; the arguments that it refuses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.search import exact as exact_search
from harness.search import scores
from harness.search.approximate import FaissSearch, recall, recall_on_sample
from harness.search.request import CorpusShard, Pairs, SearchRequest, SearchResult
from harness.search.scores import false_negative_limit, lowest_scores
from harness.search.top_k import candidate_blocks, join_blocks, top_k

NO_PAIRS = (np.empty(0, np.int64), np.empty(0, np.int64))


def brute_force(
    query: Tensor, corpus: Tensor, k: int, excluded: Pairs = NO_PAIRS, highest: np.ndarray | None = None
) -> SearchResult:
    """Search by sorting all scores by (-score, row). Scores are correctly rounded: `fsum` of exact products."""
    forbidden = set(zip(*(part.tolist() for part in excluded), strict=True))
    index = np.full((len(query), k), -1, dtype=np.int64)
    score = np.full((len(query), k), -np.inf, dtype=np.float32)
    for q, left in enumerate(query.double().numpy()):
        exact = [np.float32(math.fsum(left * right)) for right in corpus.double().numpy()]
        below = np.inf if highest is None else highest[q]
        allowed = [n for n in range(len(corpus)) if (q, n) not in forbidden and exact[n] < below]
        best = sorted(allowed, key=lambda n: (-exact[n], n))[:k]
        index[q, : len(best)], score[q, : len(best)] = best, [exact[n] for n in best]
    return SearchResult(index, score)


def assert_same(found: SearchResult, truth: SearchResult) -> None:
    np.testing.assert_array_equal(found.index_QK, truth.index_QK)
    np.testing.assert_array_equal(found.score_QK, truth.score_QK)
    assert (found.index_QK.dtype, found.score_QK.dtype) == (np.int64, np.float32)


def rows(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)


@st.composite
def requests(draw: st.DrawFn) -> SearchRequest:
    """Draw requests with small integers in the rows: many equal scores, zero rows, fewer rows than k."""
    num_queries, num_rows, width = draw(st.integers(1, 5)), draw(st.integers(0, 60)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    query = torch.randint(-2, 3, (num_queries, width), generator=generator).float()
    corpus = torch.randint(-2, 3, (num_rows, width), generator=generator).float()
    pair = st.tuples(st.integers(0, num_queries - 1), st.integers(0, 70))  # also rows beyond the end of the corpus
    pairs = np.array(draw(st.lists(pair, max_size=30)), dtype=np.int64).reshape(-1, 2)
    highest = draw(st.none() | st.lists(st.sampled_from([-3, 0, 0.5, 2, np.inf]), min_size=5, max_size=5))
    limit = None if highest is None else np.array(highest[:num_queries], np.float32)
    return SearchRequest(query, CorpusShard(0, corpus), draw(st.integers(1, 70)), (pairs[:, 0], pairs[:, 1]), limit)


@settings(max_examples=300, deadline=None)
@given(requests(), st.sampled_from([4, 40, 300, 2**20]))
def test_search_equals_brute_force_with_ties_exclusions_and_limits(request: SearchRequest, block_bytes: int) -> None:
    found = top_k(
        request.query_QD,
        request.shard,
        request.k,
        block_bytes=block_bytes,
        excluded=request.excluded,
        highest_Q=request.highest_Q,
    )
    truth = brute_force(request.query_QD, request.shard.row_CD, request.k, request.excluded, request.highest_Q)
    assert_same(found, truth)


@pytest.mark.parametrize("scale", [1e-21, 1.0, 1e15])
def test_scores_are_correctly_rounded_whatever_the_block(scale: float) -> None:
    """Some products of the small rows underflow to zero. The corpus is large enough for two levels of groups."""
    query, corpus = rows(5, 33, seed=1) * scale, rows(2500, 33, seed=2) * scale
    assert len(corpus) > (2 * exact_search.GROUP) ** 2 * 9
    truth = brute_force(query, corpus, 20)
    for block_bytes in (3_000, 19_000, None):
        for k in (1, 20):
            found = top_k(query, CorpusShard(0, corpus), k, block_bytes=block_bytes)
            assert_same(found, SearchResult(truth.index_QK[:, :k], truth.score_QK[:, :k]))


@pytest.mark.parametrize("block_bytes", [5000, None])
def test_near_copies_of_a_row_are_told_apart_below_the_error_of_float32_products(block_bytes: int | None) -> None:
    """There are more near copies than the search keeps at first, so that it must keep more."""
    query, corpus = rows(3, 64, seed=3), rows(900, 64, seed=4)
    near = query[1] + 1e-7 * rows(400, 64, seed=5)
    corpus[::2][:400] = near
    corpus[1::2][:100] = near[:100]  # exact copies at other rows
    product, truth = query[1] @ near.T, near.double() @ query[1].double()
    assert not torch.equal(product.argsort(), truth.argsort())
    found = top_k(query, CorpusShard(0, corpus), 10, block_bytes=block_bytes)
    assert_same(found, brute_force(query, corpus, 10))


@pytest.mark.parametrize("block_bytes", [5000, None])
def test_the_limit_is_held_against_the_exact_score(block_bytes: int | None) -> None:
    query, corpus = rows(40, 48, seed=6), rows(700, 48, seed=7)
    fifth = brute_force(query, corpus, 5).score_QK[:, 4]
    for limit in (fifth, np.nextafter(fifth, np.float32(2))):
        found = top_k(query, CorpusShard(0, corpus), 6, highest_Q=limit, block_bytes=block_bytes)
        assert_same(found, brute_force(query, corpus, 6, highest=limit))


def test_candidates_fill_up_behind_excluded_rows() -> None:
    query, corpus = rows(4, 16, seed=8), rows(300, 16, seed=9)
    best = brute_force(query, corpus, 60)
    excluded = (np.repeat(np.arange(4), 50), best.index_QK[:, :50].ravel())
    found = top_k(query, CorpusShard(0, corpus), 10, excluded=excluded)
    np.testing.assert_array_equal(found.index_QK, best.index_QK[:, 50:])


def test_no_block_of_products_is_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    products = exact_search._products

    def recorded(query: Tensor, corpus: Tensor) -> Tensor:
        sizes.append(4 * len(query) * len(corpus))
        return products(query, corpus)

    monkeypatch.setattr(exact_search, "_products", recorded)
    top_k(rows(50, 8, seed=1), CorpusShard(0, rows(1000, 8, seed=2)), 10, block_bytes=10_000)
    assert len(sizes) > 1
    assert max(sizes) <= 10_000 < 4 * 50 * 1000


def test_products_are_full_float32_whatever_the_process_has_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error bound holds for float32, not for TF32 or bfloat16."""
    seen = []
    products = exact_search._products

    def recorded(query: Tensor, corpus: Tensor) -> Tensor:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return products(query, corpus)

    monkeypatch.setattr(exact_search, "_products", recorded)
    torch.set_float32_matmul_precision("medium")
    try:
        top_k(rows(2, 8, seed=1), CorpusShard(0, rows(9, 8, seed=2)), 3)
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["ieee"]


ROWS = CorpusShard(0, rows(5, 8, seed=1))
BAD = {
    "query_QD, shard.row_CD: got torch.float64": {"query_QD": rows(2, 8, seed=1).double()},
    "got shapes \\(2, 7\\)": {"query_QD": rows(2, 7, seed=1)},
    "k: got 0": {"k": 0},
    "shard.row_CD: got a row of length nan": {"corpus_shard": CorpusShard(0, torch.full((3, 8), torch.nan))},
    "query_QD: got a row of length inf at 1": {"query_QD": torch.tensor([[0.0] * 8, [torch.inf] * 8])},
    "shard.first: got 4": {"corpus_shard": CorpusShard(4, rows(5, 8, seed=1))},
    "excluded: got query 2, expected 0 … 1": {"excluded": (np.array([0, 2]), np.array([0, 0]))},
    "excluded: got query -1": {"excluded": (np.array([0, -1]), np.array([0, 0]))},
    "excluded: got shapes": {"excluded": (np.array([0, 1]), np.array([0]))},
    "highest_Q: got shape \\(3,\\)": {"highest_Q": np.zeros(3, np.float32)},
    "highest_Q: got shape \\(2,\\) or NaN": {"highest_Q": np.array([np.nan, 0], np.float32)},
    "block_bytes: got 3": {"block_bytes": 3},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_refused_by_name(message: str) -> None:
    arguments = {"query_QD": rows(2, 8, seed=1), "corpus_shard": ROWS, "k": 2} | BAD[message]
    with pytest.raises(ValueError, match=message):
        top_k(**arguments)


def test_the_limit_lies_below_positives_of_either_sign() -> None:
    positive = np.array([0.8, 0.0, -0.2, np.inf], np.float32)
    expected = {(0.95, None): [0.76, 0, -0.21], (None, 0.1): [0.7, -0.1, -0.3], (0.5, 0.1): [0.4, -0.1, -0.3]}
    for (relative, margin), limit in expected.items():
        found = false_negative_limit(positive, relative=relative, margin=margin)
        np.testing.assert_allclose(found, [*limit, np.inf], rtol=1e-6)
        assert found.dtype == np.float32
    assert np.isposinf(false_negative_limit(positive)).all()


def test_the_lowest_score_of_a_query_is_that_of_its_worst_listed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    query, corpus = rows(4, 16, seed=1), rows(30, 16, seed=2)
    pairs = (np.array([3, 0, 0, 3, 1, 0]), np.array([7, 1, 2, 8, 29, 3]))
    listed = [[1, 2, 3], [29], [], [7, 8]]
    truth = [min((np.float32(math.fsum((query[q].double() * corpus[n].double()).tolist())) for n in listed[q]),
                 default=np.inf) for q in range(4)]  # fmt: skip
    for pair_bytes in (scores.PAIR_BYTES["cpu"], 1, 2 * 8 * 16):
        monkeypatch.setitem(scores.PAIR_BYTES, "cpu", pair_bytes)
        np.testing.assert_array_equal(lowest_scores(query, CorpusShard(0, corpus), pairs), np.array(truth, np.float32))


def clustered_request() -> SearchRequest:
    """A request over three clusters. Nearly all rows of the first query's cluster are excluded for it; the limit of the
    second query drops its cluster.
    """
    centre, member = rows(3, 16, seed=1), rows(600, 16, seed=2)
    corpus = torch.nn.functional.normalize(centre[torch.arange(600) % 3] + 0.5 * member, dim=1)
    query = torch.nn.functional.normalize(centre[torch.arange(9) % 3] + 0.2 * rows(9, 16, seed=3), dim=1)
    excluded = (np.zeros(190, np.int64), np.arange(0, 570, 3))
    return SearchRequest(query, CorpusShard(0, corpus), 20, excluded, np.array([2, 0.3] + [2] * 7, np.float32))


def test_faiss_visiting_every_list_equals_the_exact_search() -> None:
    pytest.importorskip("faiss")
    request = clustered_request()
    approximate = FaissSearch(request, "ivf", effort=10_000)
    assert approximate._index.nlist > 1
    found = join_blocks(candidate_blocks(approximate), request)
    assert_same(found, join_blocks(candidate_blocks(exact_search.ExactSearch(request)), request))
    assert (found.index_QK >= 0).all()
    assert recall_on_sample(approximate, num_queries=5) == 1.0


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_what_faiss_finds_is_allowed_and_exactly_scored(kind: str) -> None:
    pytest.importorskip("faiss")
    request = clustered_request()
    search = FaissSearch(request, kind, effort=8)
    found = join_blocks(candidate_blocks(search), request)
    all_allowed = brute_force(request.query_QD, request.shard.row_CD, 600, request.excluded, request.highest_Q)
    for index, score, all_index, all_score in zip(
        found.index_QK, found.score_QK, all_allowed.index_QK, all_allowed.score_QK, strict=True
    ):
        place = {n: i for i, n in enumerate(all_index.tolist()) if n >= 0}
        places = [place[n] for n in index.tolist() if n >= 0]  # KeyError: this row is excluded
        assert places == sorted(set(places))
        np.testing.assert_array_equal(score[: len(places)], all_score[places])
    assert 0.5 < recall_on_sample(search) == recall(found.index_QK, all_allowed.index_QK[:, :20])


def test_faiss_over_no_rows_finds_nothing() -> None:
    pytest.importorskip("faiss")
    request = SearchRequest(rows(3, 8, seed=1), CorpusShard(0, torch.empty(0, 8)), 2)
    for kind in ("ivf", "hnsw"):
        assert (join_blocks(candidate_blocks(FaissSearch(request, kind)), request).index_QK == -1).all()


def test_recall_counts_what_was_found_of_what_there_is() -> None:
    assert recall(np.array([[1, 2, -1], [4, 5, 6]]), np.array([[2, 3, -1], [6, 5, 4]])) == 4 / 5
    assert recall(np.array([[-1]]), np.array([[-1]])) == 1.0


def test_without_faiss_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install 'conan-harness\[mining\]'"):
        FaissSearch(clustered_request(), "ivf")
