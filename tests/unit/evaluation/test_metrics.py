"""Metrics against their plain formulas on small, hand-made or random data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.evaluation import metrics
from harness.evaluation.metrics import (
    CLUSTERING_TEXTS,
    classification_scores,
    clustering_sample,
    clustering_scores,
    normalised,
    pair_classification_scores,
    reranking_scores,
    retrieval_scores,
    search,
    sts_scores,
    training_samples,
)


def random_rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_rows_are_divided_by_their_length_and_a_zero_row_stays_zero() -> None:
    rows = normalised(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("block", [16, 64, 4096, 2**24])
def test_search_in_blocks_equals_sorting_the_whole_similarity_matrix(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(metrics, "_SIMILARITY_BLOCK", block)
    query, document = random_rows(11, 5), random_rows(83, 5, seed=1)
    index, score = search(query, document, k=7)
    cosine = normalised(query) @ normalised(document).T
    expected = np.argsort(-cosine, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(score, np.take_along_axis(cosine, expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("block", [16, 2**24])
def test_equal_scores_are_taken_in_the_order_of_the_documents(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(metrics, "_SIMILARITY_BLOCK", block)
    document = np.tile([[0.0, 1.0]], (20, 1))
    document[13] = [1.0, 0.0]
    index, _ = search(np.array([[1.0, 0.0]]), document, k=4)
    assert index.tolist() == [[13, 0, 1, 2]]


def test_fewer_documents_than_ranks_give_all_documents() -> None:
    index, score = search(random_rows(2, 3), random_rows(4, 3), k=100)
    assert index.shape == score.shape == (2, 4)


def scores_for_ranking(relevance: list[int]) -> dict[str, float]:
    """Scores of one query whose i-th best document has the i-th grade."""
    angle = np.linspace(0.1, 1.2, len(relevance))
    document = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ids = [f"d{i}" for i in range(len(relevance))]
    qrels = {"q": {name: grade for name, grade in zip(ids, relevance, strict=True) if grade}}
    return retrieval_scores(["q"], ids, np.array([[1.0, 0.0]]), document, qrels)


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


def test_a_document_with_the_querys_id_is_ranked_like_any_other() -> None:
    """mteb's default (ignore_identical_ids = False)."""
    scores = retrieval_scores(["a"], ["a", "b"], np.array([[1.0, 0.0]]), np.eye(2), {"a": {"a": 1}})
    assert scores["ndcg_at_10"] == 1.0


def test_retrieval_metrics_are_means_over_the_queries() -> None:
    query, document = np.eye(3), np.eye(3)
    qrels = {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d0": 1, "d1": 0}}
    scores = retrieval_scores(["q0", "q1", "q2"], ["d0", "d1", "d2"], query, document, qrels)
    last = 1 / 3  # trec_eval ranks equal scores by descending id: d2, then d1, d0
    assert scores["mrr_at_10"] == pytest.approx((1 + 1 + last) / 3)


def test_sts_scores_are_the_correlations_of_cosine_and_grade() -> None:
    left, right = random_rows(40, 6), random_rows(40, 6, seed=1)
    grade = np.random.default_rng(2).integers(0, 5, 40).astype(float)
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    scores = sts_scores(left, right, grade.tolist())
    assert scores["spearman"] == pytest.approx(stats.spearmanr(cosine, grade).statistic, abs=1e-6)
    assert scores["pearson"] == pytest.approx(np.corrcoef(cosine, grade)[0, 1], abs=1e-6)


def test_a_collapsed_model_has_correlation_zero_instead_of_nan() -> None:
    same = np.ones((5, 3))
    assert sts_scores(same, same, [0.0, 1.0, 2.0, 3.0, 4.0]) == {"spearman": 0.0, "pearson": 0.0}


def test_each_experiment_trains_on_eight_different_rows_per_label() -> None:
    labels = ["a"] * 30 + ["b"] * 20 + ["c"] * 5
    experiments = training_samples(labels)
    assert len(experiments) == 10
    for rows in experiments:
        assert len(set(rows)) == len(rows) == 8 + 8 + 5
        assert sum(row < 30 for row in rows) == 8
    assert len({tuple(sorted(rows)) for rows in experiments}) == 10
    assert experiments == training_samples(labels)


def test_the_draw_of_training_rows_is_mtebs() -> None:
    """Values of mteb 2.26's AbsTaskClassification._undersample_data (seed 42) for these labels."""
    labels = ["ab"[i % 2] for i in range(40)]
    assert training_samples(labels)[:2] == [
        [19, 16, 15, 26, 4, 12, 37, 27, 39, 6, 25, 9, 13, 34, 8, 24],
        [33, 17, 8, 30, 4, 13, 14, 36, 38, 37, 2, 6, 31, 39, 21, 19],
    ]


def test_accuracy_is_the_mean_over_the_experiments_and_reads_drawn_rows_only() -> None:
    generator = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(90)]
    centre = np.eye(3)[[int(label) for label in labels]]
    train = (centre + 0.05 * generator.standard_normal((90, 3))).astype(np.float32)
    drawn = sorted({row for rows in training_samples(labels) for row in rows})
    spoilt = np.full_like(train, np.nan)
    spoilt[drawn] = train[drawn]
    test_labels = ["0", "1", "2", "0"]
    test = np.eye(3)[[0, 1, 2, 1]]  # the last one is wrong on purpose
    scores = classification_scores(spoilt, labels, test, test_labels)
    assert scores["accuracy"] == pytest.approx(3 / 4)
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def towards(*cosines: float) -> np.ndarray:
    """Rows of different lengths with these cosines to (1, 0)."""
    cosine_N = np.array(cosines)
    return (np.stack([cosine_N, np.sqrt(1 - cosine_N**2)], axis=1) * np.arange(1, len(cosines) + 1)[:, None]).astype(
        "f"
    )


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
        assert scores == {"map": pytest.approx(1 / rank), "mrr": pytest.approx(expected)}


def test_clusters_are_compared_by_v_measure_whatever_their_names() -> None:
    labels = [str(i % 4) for i in range(40)]
    near = np.eye(4, 6)[[int(label) for label in labels]] + 0.01 * random_rows(40, 6)
    assert clustering_scores(near.astype(np.float32), labels) == {"v_measure": pytest.approx(1.0)}
    # labels 0 and 2 are one point, 1 and 3 another: the clusters know 1 bit of the labels' 2 (homogeneity 1/2), and
    # each label lies in one cluster (completeness 1)
    merged = np.eye(4, 6)[[int(label) % 2 for label in labels]]
    (score,) = clustering_scores(merged.astype(np.float32), labels).values()
    assert score == pytest.approx(2 * 0.5 * 1 / (0.5 + 1), abs=0.02)  # 0.02: 2,048 drawn rows are not quite even
    assert clustering_scores(near.astype(np.float32), labels) == clustering_scores(near.astype(np.float32), labels)


def test_of_more_texts_than_mteb_embeds_its_number_is_drawn() -> None:
    assert clustering_sample(5) == [0, 1, 2, 3, 4]
    drawn = clustering_sample(CLUSTERING_TEXTS + 100)
    assert len(set(drawn)) == CLUSTERING_TEXTS
    assert drawn == clustering_sample(CLUSTERING_TEXTS + 100) != list(range(CLUSTERING_TEXTS))


def test_pairs_are_classified_by_average_precision_of_their_cosines() -> None:
    first, second = np.tile([[3.0, 0.0]], (4, 1)), towards(0.9, 0.5, 0.7, 0.2)
    scores = pair_classification_scores(first, second, [True, True, False, False])
    assert scores == {"cosine_ap": pytest.approx((1 + 2 / 3) / 2)}  # the same at ranks 1 and 3
    alike = pair_classification_scores(first, first, [True, False, False, False])
    assert alike == {"cosine_ap": pytest.approx(1 / 4)}  # all at one rank
