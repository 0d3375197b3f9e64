"""The nearest documents by cosine equal those by sorting all cosines."""

from __future__ import annotations

import numpy as np
import pytest

from harness.search import exact as exact_search
from harness.search.top_k import nearest_by_cosine
from harness.search.unit_rows import unit_rows


def random_rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("block", [16, 64, 4096, 2**24])
def test_nearest_by_cosine_in_blocks_equals_sorting_the_whole_similarity_matrix(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setitem(exact_search.BLOCK_BYTES, "cpu", 4 * block)
    query, document = 3 * random_rows(11, 5), 0.2 * random_rows(83, 5, seed=1)
    found = nearest_by_cosine(query, document, k=7)
    cosine = unit_rows(query) @ unit_rows(document).T
    expected = np.argsort(-cosine, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(found.index_QK, expected)
    np.testing.assert_allclose(found.score_QK, np.take_along_axis(cosine, expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("block", [16, 2**24])
def test_equal_scores_are_taken_in_the_order_of_the_documents(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setitem(exact_search.BLOCK_BYTES, "cpu", 4 * block)
    document = np.tile([[0.0, 1.0]], (20, 1))
    document[13] = [1.0, 0.0]
    found = nearest_by_cosine(np.array([[1.0, 0.0]]), document, k=4)
    assert found.index_QK.tolist() == [[13, 0, 1, 2]]


def test_fewer_documents_than_ranks_give_all_documents() -> None:
    found = nearest_by_cosine(random_rows(2, 3), random_rows(4, 3), k=100)
    assert found.index_QK.shape == found.score_QK.shape == (2, 4)
