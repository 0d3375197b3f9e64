"""Reranking metrics for given cosines."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds import reranking
from harness.search.scores import pair_cosines
from tests.unit.evaluation.kinds.vectors import towards


def reranking_scores(query_QD: np.ndarray, document_ND: np.ndarray, relevant: list[list[bool]]) -> dict[str, float]:
    query_N = np.repeat(np.arange(len(query_QD)), [len(documents) for documents in relevant])
    return reranking.reranking_scores(pair_cosines(query_QD[query_N], document_ND), relevant)


def test_reranking_takes_each_query_with_its_own_documents() -> None:
    query = np.array([[2.0, 0.0], [1.0, 0.0]])
    document = towards(0.9, 0.8, 0.7, 0.6, 0.1, 0.5)
    scores = reranking_scores(query, document, [[False, True, False, True], [True, False]])
    # relevant at ranks 2 and 4: AP (1/2 + 2/4) / 2; at rank 2 of 2: AP 1/2
    assert scores["map"] == pytest.approx((0.5 + 0.5) / 2)
    assert scores["mrr"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    better = reranking_scores(query, document, [[True, False, True, False], [False, True]])
    assert better["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert better["mrr"] == 1.0


def test_a_first_relevant_document_below_rank_10_has_no_reciprocal_rank() -> None:
    document = towards(*np.linspace(0.9, 0.1, 12))
    for rank, expected in ((10, 1 / 10), (11, 0.0)):
        scores = reranking_scores(np.array([[1.0, 0.0]]), document, [[i == rank - 1 for i in range(12)]])
        assert scores["map"] == scores["map_at_1000"] == pytest.approx(1 / rank)
        assert scores["mrr"] == scores["mrr_at_10"] == pytest.approx(expected)


def test_equal_cosines_count_against_the_model_wherever_the_positive_stands() -> None:
    """A collapsed model, whose vectors have one direction and any length, must not look perfect."""
    query, document = np.array([[1.0, 3.0, 7.0]]), np.array([[1.0, 3.0, 7.0]]) * np.arange(1, 6)[:, None]
    for place in range(5):
        scores = reranking_scores(query, document.astype(np.float32), [[i == place for i in range(5)]])
        assert scores["map"] == scores["mrr"] == pytest.approx(1 / 5)
