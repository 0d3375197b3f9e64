"""STS scores are correlations of cosines and grades."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.evaluation.kinds.sts import sts_scores
from harness.search.scores import pair_cosines
from harness.search.unit_rows import unit_rows
from tests.unit.evaluation.kinds.vectors import random_rows


def test_sts_scores_are_the_correlations_of_cosine_and_grade() -> None:
    left, right = random_rows(40, 6), random_rows(40, 6, seed=1)
    grade = np.random.default_rng(2).integers(0, 5, 40).astype(float)
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    scores = sts_scores(left, right, grade.tolist())
    assert scores["spearman"] == pytest.approx(stats.spearmanr(cosine, grade).statistic, abs=1e-6)
    assert scores["pearson"] == pytest.approx(np.corrcoef(cosine, grade)[0, 1], abs=1e-6)


def test_a_collapsed_model_has_no_correlation() -> None:
    """Unknown, not 0: a correlation of 0 says that cosine and grade are independent."""
    same = np.outer(np.arange(1, 6), [0.1, 0.2, 0.7]).astype(np.float32)
    for grades in ([0.0, 1.0, 2.0, 3.0, 4.0], [1.0] * 5):
        scores = sts_scores(same, same[::-1], grades)
        assert scores.keys() == {"spearman", "pearson"}
        assert all(np.isnan(value) for value in scores.values())


def test_pairs_of_one_direction_have_one_cosine_whatever_the_lengths() -> None:
    """Float32 products differ in the last bit between such pairs, and noise would order them."""
    left = random_rows(300, 24)
    length = np.random.RandomState(0).uniform(0.1, 9, (300, 1))
    assert set(pair_cosines(left, (left * length).astype(np.float32)).tolist()) == {1.0}
    assert len(set(np.einsum("sd,sd->s", unit_rows(left), unit_rows(left)).tolist())) > 1
    assert pair_cosines(0 * left[:1], left[:1]).tolist() == [0.0]
