"""Retrieval metrics equal their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds.retrieval import TOP_K, retrieval_values
from harness.evaluation.kinds.trec import mean_scores
from harness.search.cosine import Share, nearest_by_cosine
from harness.search.request import SearchResult


def scores_of_found(
    query_ids: list[str], document_ids: list[str], found: SearchResult, qrels: dict[str, dict[str, int]]
) -> dict[str, float]:
    return mean_scores([retrieval_values(query_ids, lambda n: [document_ids[i] for i in n], found, qrels)])


def scores_of(
    query_ids: list[str],
    document_ids: list[str],
    query_QD: np.ndarray,
    document_CD: np.ndarray,
    qrels: dict[str, dict[str, int]],
) -> dict[str, float]:
    """Search and return the scores of the result."""
    found = nearest_by_cosine(query_QD, Share(document_CD, 0, len(document_CD)), TOP_K)
    return scores_of_found(query_ids, document_ids, found, qrels)


def scores_for_ranking(relevance: list[int]) -> dict[str, float]:
    """Scores of one query whose i-th best document has the i-th grade."""
    angle = np.linspace(0.1, 1.2, len(relevance))
    document = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ids = [f"d{i}" for i in range(len(relevance))]
    qrels = {"q": {name: grade for name, grade in zip(ids, relevance, strict=True) if grade}}
    return scores_of(["q"], ids, np.array([[1.0, 0.0]]), document, qrels)


def test_retrieval_metrics_equal_their_formulas() -> None:
    relevance = [0, 3, 0, 1, *[0] * 7, 2, *[0] * 100, 1]  # grades at ranks 2, 4, 12 and 113
    scores = scores_for_ranking(relevance)
    ideal = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4) + 1 / np.log2(5)
    assert scores["ndcg_at_10"] == pytest.approx((3 / np.log2(3) + 1 / np.log2(5)) / ideal)
    assert scores["map_at_10"] == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert scores["map_at_100"] == pytest.approx((1 / 2 + 2 / 4 + 3 / 12) / 4)
    assert scores["mrr_at_10"] == pytest.approx(1 / 2)
    assert scores["recall_at_10"] == pytest.approx(2 / 4)
    assert scores["recall_at_100"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (10, 0.1), (11, 0.0), (50, 0.0)])
def test_reciprocal_rank_counts_to_rank_ten(rank: int, expected: float) -> None:
    relevance = [0] * 60
    relevance[rank - 1] = 1
    assert scores_for_ranking(relevance)["mrr_at_10"] == pytest.approx(expected)


def test_retrieval_metrics_are_means_over_the_queries() -> None:
    query, document = np.eye(3), np.eye(3)
    qrels = {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d0": 1, "d1": 0}}
    scores = scores_of(["q0", "q1", "q2"], ["d0", "d1", "d2"], query, document, qrels)
    last = 1 / 3  # trec_eval ranks equal scores by descending id: d2, then d1, d0
    assert scores["mrr_at_10"] == pytest.approx((1 + 1 + last) / 3)


def test_a_query_whose_ranking_is_empty_scores_zero() -> None:
    """Its own document was the only one."""
    nearest = SearchResult(np.array([[-1], [0]]), np.array([[-np.inf], [1.0]]))
    scores = scores_of_found(["d", "q"], ["d"], nearest, {"d": {"d": 1}, "q": {"d": 1}})
    assert scores["mrr_at_10"] == scores["recall_at_100"] == 0.5
